//! Processes that do one job together, meeting where an algorithm needs what all of them have.

/// The processes of a job, seen by one of them. Whatever is called, all call it, in one order.
pub trait Crew {
    /// Which this is, from 0.
    fn rank(&self) -> usize;
    /// How many there are.
    fn size(&self) -> usize;
    /// What the process `from` has, to all of them; what the others hand in counts for nothing.
    fn spread(&self, from: usize, bytes: Vec<u8>) -> Vec<u8>;
}

/// A process without company.
#[derive(Clone, Copy, Debug)]
pub struct Alone;

impl Crew for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn spread(&self, _: usize, bytes: Vec<u8>) -> Vec<u8> {
        bytes
    }
}

/// What every process has, in the order of their ranks.
pub fn gather(crew: &dyn Crew, mine: Vec<u8>) -> Vec<Vec<u8>> {
    let mut mine = Some(mine);
    let one = |from| {
        let own = if from == crew.rank() { mine.take() } else { None };
        crew.spread(from, own.unwrap_or_default())
    };
    (0..crew.size()).map(one).collect()
}
