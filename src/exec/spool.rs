//! Where the live values of samples rest between stages: in memory as far as the room goes, beyond
//! it in a file without a name, which is gone with the program however that ends. The only file that
//! this room touches: nobody but the running program ever sees it.

use super::Stream;
use crate::tensor::{self, Par, Tensor, alone, each};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Numbers that are converted at a time.
const PIECE: usize = 1 << 14;
/// Items that are in memory together, for each thread, where room is limited.
pub(crate) const AHEAD: usize = 2;

/// The disk would not hold or give back what rests there.
#[derive(Debug, thiserror::Error)]
#[error("{folder}: cannot keep the samples' live values there: {source}")]
pub struct SpoolError {
    /// Where the file is.
    pub folder: String,
    /// What the system said.
    pub source: io::Error,
}

/// Memory that several spools share, and the folder for what it does not hold.
#[derive(Debug)]
pub struct Room {
    /// Bytes; none for as many as there are.
    limit: Option<u64>,
    used: AtomicU64,
    folder: PathBuf,
}

impl Room {
    /// Room for `limit` bytes in memory, the rest in `folder`, which is made when needed.
    pub fn new(limit: Option<u64>, folder: &Path) -> Arc<Room> {
        Arc::new(Room { limit, used: AtomicU64::new(0), folder: folder.to_owned() })
    }

    /// Takes so many bytes if they are free.
    fn take(&self, bytes: u64) -> bool {
        let fits = |used: u64| {
            let used = used.saturating_add(bytes);
            self.limit.is_none_or(|limit| used <= limit).then_some(used)
        };
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
    }

    fn give(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// How items are worked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gait {
    /// Several at once, a thread each.
    SideBySide,
    /// In order, each by all threads.
    OneByOne,
}

/// The streams of each of a number of items.
pub struct Spool {
    room: Arc<Room>,
    slots: Vec<Slot>,
    spilled: Option<File>,
}

enum Slot {
    Here { streams: Vec<Stream>, bytes: u64 },
    There { at: u64, streams: Vec<Outline> },
}

/// A stream without its numbers: how many values its graph has, index and shape of those that live.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outline {
    values: usize,
    live: Vec<(usize, Vec<usize>)>,
}

impl Spool {
    /// `len` items without streams.
    pub fn new(len: usize, room: Arc<Room>) -> Spool {
        let slots = (0..len).map(|_| Slot::Here { streams: Vec::new(), bytes: 0 }).collect();
        Spool { room, slots, spilled: None }
    }

    /// Does `work` on the streams of every item, given its position. `see` is shown the streams of
    /// consecutive items, in order, with the position of the first, when they are done.
    ///
    /// # Errors
    /// The first of `work`, or what the disk said.
    pub fn pass<T: Send, E: Send + From<SpoolError>>(
        &mut self,
        gait: Gait,
        work: impl Fn(usize, &mut Vec<Stream>, Par) -> Result<T, E> + Sync,
        see: &mut dyn FnMut(usize, &[Vec<Stream>]),
    ) -> Result<Vec<T>, E> {
        let mut results = Vec::with_capacity(self.slots.len());
        let mut next = Spill::new(&self.room.folder);
        let chunk = match (gait, self.room.limit) {
            (Gait::OneByOne, _) => 1,
            (Gait::SideBySide, None) => self.slots.len().max(1),
            (Gait::SideBySide, Some(_)) => AHEAD * rayon::current_num_threads(),
        };
        for first in (0..self.slots.len()).step_by(chunk) {
            let last = (first + chunk).min(self.slots.len());
            let taken = (first..last).map(|i| self.take(i));
            let mut items: Vec<Vec<Stream>> = taken.collect::<Result<_, _>>()?;
            let done: Result<Vec<T>, E> = match gait {
                Gait::OneByOne => {
                    let items = items.iter_mut().enumerate();
                    items.map(|(i, item)| work(first + i, item, Par::All)).collect()
                }
                Gait::SideBySide => each(items.iter_mut().enumerate(), |(i, item)| {
                    alone(|| work(first + i, item, Par::Seq))
                }),
            };
            results.extend(done?);
            see(first, &items);
            for (i, item) in items.into_iter().enumerate() {
                self.put(first + i, item, &mut next)?;
            }
        }
        self.spilled = next.finish()?;
        Ok(results)
    }

    /// What the streams of each item are without their numbers.
    pub fn outlines(&self) -> Vec<Vec<Outline>> {
        let outlines = |slot: &Slot| match slot {
            Slot::Here { streams, .. } => streams.iter().map(Outline::of).collect(),
            Slot::There { streams, .. } => streams.clone(),
        };
        self.slots.iter().map(outlines).collect()
    }

    /// Writes the numbers of all streams, item after item, as they are; how many bytes.
    ///
    /// # Errors
    /// What the system said.
    pub fn write_to(&self, out: &mut dyn Write) -> io::Result<u64> {
        let mut written = 0;
        for slot in &self.slots {
            match slot {
                Slot::Here { streams, bytes } => {
                    put_numbers(streams, out)?;
                    written += bytes;
                }
                Slot::There { at, streams } => {
                    let mut file =
                        self.spilled.as_ref().expect("invariant: what was spilled has a file");
                    file.seek(SeekFrom::Start(*at))?;
                    let bytes = streams.iter().map(Outline::bytes).sum();
                    written += io::copy(&mut file.take(bytes), out)?;
                }
            }
        }
        Ok(written)
    }

    /// Items whose streams [`Spool::write_to`] wrote into `file`, from the byte `at` on; they are
    /// read from there when it is their turn.
    pub fn restored(file: File, mut at: u64, items: Vec<Vec<Outline>>, room: Arc<Room>) -> Spool {
        let slot = |streams: Vec<Outline>| {
            let start = at;
            at += streams.iter().map(Outline::bytes).sum::<u64>();
            Slot::There { at: start, streams }
        };
        let slots = items.into_iter().map(slot).collect();
        Spool { room, slots, spilled: Some(file) }
    }

    /// Bytes of live values that lie on disk.
    #[cfg(test)]
    fn spilled_bytes(&self) -> u64 {
        let bytes = |slot: &Slot| match slot {
            Slot::Here { .. } => 0,
            Slot::There { streams, .. } => streams.iter().map(Outline::bytes).sum(),
        };
        self.slots.iter().map(bytes).sum()
    }

    fn take(&mut self, i: usize) -> Result<Vec<Stream>, SpoolError> {
        let empty = Slot::Here { streams: Vec::new(), bytes: 0 };
        match std::mem::replace(&mut self.slots[i], empty) {
            Slot::Here { streams, bytes } => {
                self.room.give(bytes);
                Ok(streams)
            }
            Slot::There { at, streams } => {
                let file = self.spilled.as_mut().expect("invariant: what was spilled has a file");
                read(file, at, &streams).map_err(failed(&self.room.folder))
            }
        }
    }

    fn put(&mut self, i: usize, item: Vec<Stream>, next: &mut Spill) -> Result<(), SpoolError> {
        let bytes = item.iter().map(Stream::bytes).sum();
        self.slots[i] = if self.room.take(bytes) {
            Slot::Here { streams: item, bytes }
        } else {
            let at = next.write(&item)?;
            Slot::There { at, streams: item.iter().map(Outline::of).collect() }
        };
        Ok(())
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        for slot in &self.slots {
            if let Slot::Here { bytes, .. } = slot {
                self.room.give(*bytes);
            }
        }
    }
}

impl Outline {
    fn of(stream: &Stream) -> Outline {
        let live = stream.live.iter().enumerate();
        let live = live.filter_map(|(i, x)| Some((i, x.as_ref()?.shape().to_vec())));
        Outline { values: stream.live.len(), live: live.collect() }
    }

    /// Of its numbers.
    pub fn bytes(&self) -> u64 {
        let elements = |(_, shape): &(usize, Vec<usize>)| shape.iter().product::<usize>();
        4 * self.live.iter().map(elements).sum::<usize>() as u64
    }
}

impl Stream {
    fn bytes(&self) -> u64 {
        4 * self.live.iter().flatten().map(Tensor::len).sum::<usize>() as u64
    }
}

/// A file that is written from front to back, made with its first byte.
struct Spill {
    folder: PathBuf,
    file: Option<BufWriter<File>>,
    end: u64,
}

impl Spill {
    fn new(folder: &Path) -> Spill {
        Spill { folder: folder.to_owned(), file: None, end: 0 }
    }

    /// Appends all live values; where they begin.
    fn write(&mut self, streams: &[Stream]) -> Result<u64, SpoolError> {
        let failed = failed(&self.folder);
        if self.file.is_none() {
            self.file =
                Some(BufWriter::with_capacity(1 << 18, nameless(&self.folder).map_err(&failed)?));
        }
        let out = self.file.as_mut().expect("invariant: made above");
        let start = self.end;
        put_numbers(streams, out).map_err(&failed)?;
        self.end += streams.iter().map(Stream::bytes).sum::<u64>();
        Ok(start)
    }

    fn finish(self) -> Result<Option<File>, SpoolError> {
        let file = self.file.map(|out| out.into_inner().map_err(io::IntoInnerError::into_error));
        file.transpose().map_err(failed(&self.folder))
    }
}

fn put_numbers(streams: &[Stream], out: &mut dyn Write) -> io::Result<()> {
    for tensor in streams.iter().flat_map(|stream| stream.live.iter().flatten()) {
        for piece in tensor.data().chunks(PIECE) {
            let bytes = tensor::le_bytes(piece);
            out.write_all(&bytes)?;
        }
    }
    Ok(())
}

/// A new file in `folder`, which is made if need be; without a name where the system allows that.
pub(crate) fn nameless(folder: &Path) -> io::Result<File> {
    fs::create_dir_all(folder)?;
    tempfile::tempfile_in(folder)
}

fn read(file: &mut File, at: u64, streams: &[Outline]) -> io::Result<Vec<Stream>> {
    file.seek(SeekFrom::Start(at))?;
    let mut file = BufReader::with_capacity(1 << 18, file);
    let mut bytes = vec![0; 4 * PIECE];
    let mut tensor = |shape: &[usize]| {
        let mut outcome = Ok(());
        let tensor = Tensor::written(shape, |out| {
            for out in out.chunks_mut(PIECE) {
                let bytes = &mut bytes[..4 * out.len()];
                if outcome.is_ok() {
                    outcome = file.read_exact(bytes);
                }
                let (words, _) = bytes.as_chunks();
                out.iter_mut().zip(words).for_each(|(x, word)| *x = f32::from_le_bytes(*word));
            }
        });
        outcome.map(|()| tensor)
    };
    let stream = |outline: &Outline| {
        let mut live = vec![None; outline.values];
        for (i, shape) in &outline.live {
            live[*i] = Some(tensor(shape)?);
        }
        Ok(Stream { live })
    };
    streams.iter().map(stream).collect()
}

fn failed(folder: &Path) -> impl Fn(io::Error) -> SpoolError {
    let folder = folder.display().to_string();
    move |source| SpoolError { folder: folder.clone(), source }
}

#[cfg(test)]
mod tests;
