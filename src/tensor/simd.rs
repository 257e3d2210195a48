//! One body, several instruction sets: a function is compiled under the widest vector extensions
//! and the best one the processor has is chosen when it is called.
//!
//! The bodies are plain loops that the compiler vectorizes. They fuse a multiplication and an addition
//! where they say so (`mul_add`) and nowhere else, and fix their own reduction order, so every
//! instruction set gives the same bits; one without fused operations is slow at them.

/// Defines a function whose body is instantiated for AVX-512, AVX2 and the baseline.
macro_rules! dispatch {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        $vis fn $name($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn body($($arg: $ty),*) $(-> $ret)? $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq")]
                fn avx512($($arg: $ty),*) $(-> $ret)? { body($($arg),*) }
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($arg: $ty),*) $(-> $ret)? { body($($arg),*) }
                if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512dq")
                {
                    // SAFETY: the features that the function enables were detected on the line above.
                    return unsafe { avx512($($arg),*) };
                }
                if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                    // SAFETY: the feature that the function enables was detected on the line above.
                    return unsafe { avx2($($arg),*) };
                }
            }
            body($($arg),*)
        }
    };
}
pub(crate) use dispatch;

/// Adding and subtracting it rounds |x| < 2^22 to an integer, ties to even, and turns -0 into 0 as
/// torch's integer detour does; the low bits of the sum hold the integer.
pub(crate) const ROUNDER: f32 = 12_582_912.0;

/// Joins lanes by halves: the order is the same for every instruction set, and a fold from left to right
/// would cost more than a short row itself.
#[inline(always)]
pub(crate) fn joined<T: Copy, const N: usize>(mut lanes: [T; N], join: impl Fn(T, T) -> T) -> T {
    let mut half = N / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] = join(lanes[lane], lanes[lane + half]);
        }
        half /= 2;
    }
    lanes[0]
}
