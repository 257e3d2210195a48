//! Two-stream rounding: the quantized layer on the inputs the quantized network gives it shall do
//! what the float layer does on the float network's inputs.
//!
//! minimise ‖W Xᵀ − Ŵ X̂ᵀ‖² (GPTAQ, Li et al., ICML 2025; Qronos, Zhang et al., 2025). Completing the
//! square, up to a constant this is (V − Ŵ) H (V − Ŵ)ᵀ with
//!
//! V = W + W C (H + λ I)⁻¹,
//!
//! so it is GPTQ towards V instead of W: where Qronos corrects its first column and then
//! diffuses, here the whole correction is made at once, and everything GPTQ offers here (search
//! after compensation, descent) applies. Equal streams give V = W and therefore GPTQ.
//!
//! | symbol | here | meaning |
//! |---|---|---|
//! | X, X̂ | | inputs in the float and in the quantized network |
//! | R, R̂ | | what the output is added to, in the float and in the quantized network |
//! | H, C, D | `Moments` | X̂ᵀX̂, (X − X̂)ᵀX̂, (R − R̂)ᵀX̂ |
//! | λ | `damp` | damping; also what ties V to W where the data says little |
//! | α | `alpha` | share of the way from W to V |
//! | β | `beta` | share of what the stream lost |
//!
//! Where the output is only added to a stream, as that of the last layer of an attention or of an MLP
//! is, the sum R + W Xᵀ is what matters, so the target may also bring back what R̂ lost:
//! V += β D (H + λ I)⁻¹.

use super::gptq::{self, Gptq, Towards};
use super::{AlgoError, Entry, Layer, Rounded, Rounding, Streams};
use serde::{Deserialize, Serialize};

/// Its line in the registry.
pub const ENTRY: Entry = Entry {
    name: "qronos",
    about: "gptq against the float network's activations (two streams)",
    keys: &[&["alpha", "beta"], gptq::KEYS],
    build: |mut options| {
        let mut share = |key, unsaid| options.remove(key).map_or(Ok(unsaid), toml::Value::try_into);
        let (alpha, beta) = (share("alpha", 1.0)?, share("beta", 0.0)?);
        let gptq = options.try_into::<Gptq>()?;
        Ok(Box::new(Qronos { alpha, beta, gptq }) as Box<dyn Rounding>)
    },
};

/// Options: those of GPTQ, and α.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Qronos {
    /// Share of the way towards the float stream, 0 to 1.
    pub alpha: f64,
    /// Share of what the stream lost that the layer's output is added to, 0 to 1.
    pub beta: f64,
    /// The rest.
    pub gptq: Gptq,
}

impl Rounding for Qronos {
    fn streams(&self) -> Streams {
        self.towards().streams().max(Streams::Both)
    }

    fn round(&self, layer: &Layer<'_>) -> Result<Rounded, AlgoError> {
        let solve = |part: &gptq::Part<'_>| self.gptq.compensated(part);
        self.gptq.round_towards("qronos", layer, self.towards(), &solve)
    }
}

impl Qronos {
    fn towards(&self) -> Towards {
        Towards { alpha: self.alpha, beta: self.beta }
    }
}
