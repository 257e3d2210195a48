//! A crew of processes that `mpirun` started (Open MPI, through the `mpi` crate).

use super::Crew;
use mpi::Threading;
use mpi::environment::Universe;
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, Root};

/// Bytes that travel at once: MPI counts with 32 bits.
const PIECE: usize = 1 << 28;

/// All processes of one `mpirun`. Only the thread that started it may call it.
pub struct Mpi {
    world: SimpleCommunicator,
    _universe: Universe,
}

impl Mpi {
    /// Joins the others; none if this process has joined before.
    pub fn start() -> Option<Mpi> {
        let (universe, _) = mpi::initialize_with_threading(Threading::Funneled)?;
        Some(Mpi { world: universe.world(), _universe: universe })
    }

    /// Ends all processes at once: one of them cannot go on, so the others would wait for ever.
    pub fn abort(&self) -> ! {
        self.world.abort(2)
    }
}

impl Crew for Mpi {
    fn rank(&self) -> usize {
        usize::try_from(self.world.rank()).unwrap_or(0)
    }

    fn size(&self) -> usize {
        usize::try_from(self.world.size()).unwrap_or(1)
    }

    fn spread(&self, from: usize, mut bytes: Vec<u8>) -> Vec<u8> {
        let root = self.world.process_at_rank(from as i32);
        let mut len = bytes.len() as u64;
        root.broadcast_into(&mut len);
        bytes.resize(usize::try_from(len).unwrap_or(usize::MAX), 0);
        for piece in bytes.chunks_mut(PIECE) {
            root.broadcast_into(piece);
        }
        bytes
    }
}
