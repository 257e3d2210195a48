//! Which instruction sets there are, which of them the processor has, and how a product is cut for each.

use super::Products;
use super::kernel::LINE;

/// An instruction set that we have a tile for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Isa {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Portable,
    /// Multiplies pairs of bf16.
    #[cfg(target_arch = "x86_64")]
    Avx512Bf16,
    /// Multiplies fours of 8-bit integers, unsigned by signed ones.
    #[cfg(target_arch = "x86_64")]
    Avx512Bytes,
    /// Multiplies pairs of 16-bit integers.
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
    /// The same, in two instructions.
    #[cfg(target_arch = "x86_64")]
    Avx512Whole,
    /// The same.
    #[cfg(target_arch = "x86_64")]
    Avx2Whole,
    /// The same, without saying how.
    PortableWhole,
}

/// For f32, the widest first.
#[cfg(target_arch = "x86_64")]
pub(super) const FLOATS: [Isa; 3] = [Isa::Avx512, Isa::Avx2, Isa::Portable];
#[cfg(not(target_arch = "x86_64"))]
pub(super) const FLOATS: [Isa; 1] = [Isa::Portable];

/// For pairs of integers, the fastest first.
#[cfg(target_arch = "x86_64")]
pub(super) const WHOLES: [Isa; 4] =
    [Isa::Avx512Vnni, Isa::Avx512Whole, Isa::Avx2Whole, Isa::PortableWhole];
#[cfg(not(target_arch = "x86_64"))]
pub(super) const WHOLES: [Isa; 1] = [Isa::PortableWhole];

/// Whether any processor that this program runs on multiplies and adds at once, as the wider tiles do.
pub(super) const FUSED: bool = cfg!(any(target_arch = "aarch64", target_feature = "fma"));

impl Isa {
    /// The one for such products; for bf16 an f32 one where there are no pairs.
    pub(super) fn detect(products: Products) -> Isa {
        #[cfg(target_arch = "x86_64")]
        if products == Products::Bf16 && Isa::Avx512Bf16.is_here() {
            return Isa::Avx512Bf16;
        }
        let _ = products;
        FLOATS.into_iter().find(|isa| isa.is_here()).unwrap_or(Isa::Portable)
    }

    /// The one for integers.
    pub(super) fn whole() -> Isa {
        WHOLES.into_iter().find(|isa| isa.is_here()).unwrap_or(Isa::PortableWhole)
    }

    /// The one for integers of 8 bits, if there is one.
    pub(super) fn bytes() -> Option<Isa> {
        #[cfg(target_arch = "x86_64")]
        return Some(Isa::Avx512Bytes).filter(|isa| isa.is_here());
        #[cfg(not(target_arch = "x86_64"))]
        None
    }

    /// Whether a word of its tiles is four integers of 8 bits.
    pub(super) fn takes_bytes(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Bytes => true,
            _ => false,
        }
    }

    /// Integers in a word of its tiles.
    pub(super) fn integers(self) -> usize {
        if self.takes_bytes() { 4 } else { 2 }
    }

    /// Whether the processor has it.
    pub(super) fn is_here(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        macro_rules! has {
            ($($feature:tt)*) => { true $(&& is_x86_feature_detected!($feature))* };
        }
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => has!("avx512f"),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => has!("avx2" "fma"),
            Isa::Portable | Isa::PortableWhole => true,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Bf16 => has!("avx512f" "avx512bf16"),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Bytes | Isa::Avx512Vnni => has!("avx512f" "avx512vnni"),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Whole => has!("avx512f" "avx512bw"),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2Whole => has!("avx2"),
        }
    }

    /// Whether a word of its tiles is a pair of bf16, not one f32.
    pub(super) fn pairs(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Bf16 => true,
            _ => false,
        }
    }

    /// Rows of a tile, and its columns: two vectors.
    fn tile(self) -> [usize; 2] {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512
            | Isa::Avx512Bf16
            | Isa::Avx512Bytes
            | Isa::Avx512Vnni
            | Isa::Avx512Whole => [12, 32],
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 | Isa::Avx2Whole => [6, 16],
            Isa::Portable | Isa::PortableWhole => [4, 8],
        }
    }

    /// Rows of a tile.
    pub(super) fn tile_rows(self) -> usize {
        self.tile()[0]
    }

    /// Columns of a panel, which is as wide as a tile.
    pub(super) fn panel_width(self) -> usize {
        self.tile()[1]
    }

    /// Length of a block of a reduction of `k` f32, or pairs of bf16: a panel of it stays in the first- or
    /// second-level cache. It is a matter of `k` and of what is multiplied alone, since other blocks add up
    /// in another order: neither threads nor instruction sets may change a result.
    pub(super) fn block(self, k: usize) -> usize {
        let long = match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Bf16 => usize::MAX,
            _ => 2048,
        };
        if k >= long { 256 } else { 1024 }
    }

    /// Words of a reduction that a tile walks before its results leave the registers for memory; a panel
    /// of them stays in the second-level cache.
    pub(super) fn walk(self) -> usize {
        if self.is_wide() { 1024 } else { 256 }
    }

    /// Numbers of the left operand that are gathered into strips at a time, to stay in the
    /// second-level cache, in a product by `n` columns; none: it is read in place.
    pub(super) fn strips(self, n: usize) -> Option<usize> {
        match self {
            _ if n < 512 => None,
            _ if self.is_wide() => Some(128 << 10),
            Isa::Portable | Isa::PortableWhole => None,
            #[cfg(target_arch = "x86_64")]
            _ => Some(64 << 10),
        }
    }

    /// Whether tiles fetch the panel after theirs: a processor soon notices that a long one is read from
    /// end to end.
    pub(super) fn fetches(self) -> bool {
        !self.is_wide()
    }

    /// How much of the next panel, `depth` words deep, each of the tiles of so many rows fetches: all of
    /// it together, in whole lines of the cache.
    pub(super) fn share(self, rows: usize, depth: usize) -> usize {
        let tiles = rows.div_ceil(self.tile_rows()).max(1);
        (depth * self.panel_width()).div_ceil(tiles).max(1).next_multiple_of(LINE)
    }

    /// Whether its vectors are of 512 bits.
    fn is_wide(self) -> bool {
        self.panel_width() == 32
    }
}
