//! One private vector trait, three instruction sets, one dispatch point.
//!
//! A kernel is written once over [`Lanes`] inside [`simd_fn!`], which compiles it for AVX-512, AVX2 + FMA and portable
//! code and picks one at run time. Kernels are leaves: they work on slices of rows and never spawn threads.

mod lanes;
pub(crate) mod math;
#[cfg(target_arch = "x86_64")]
mod x86;

pub(crate) use lanes::{Lanes, Portable};
#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512};

/// The instruction set that kernels run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// 512-bit vectors with masked tails.
    Avx512,
    /// 256-bit vectors with fused multiply-add.
    Avx2,
    /// Arrays of eight, left to the compiler.
    Portable,
}

/// Returns the instruction set chosen for this process.
///
/// `CHANDLERY_ISA` (`avx512`, `avx2`, `portable`) asks for a lower one than the processor offers; it never asks for a
/// higher one.
pub fn isa() -> Isa {
    static CHOSEN: std::sync::OnceLock<Isa> = std::sync::OnceLock::new();
    *CHOSEN.get_or_init(|| {
        let best = detect();
        match std::env::var("CHANDLERY_ISA").as_deref() {
            Ok("portable") => Isa::Portable,
            Ok("avx2") if best != Isa::Portable => Isa::Avx2,
            _ => best,
        }
    })
}

#[cfg(target_arch = "x86_64")]
fn detect() -> Isa {
    if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512dq") {
        Isa::Avx512
    } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        Isa::Avx2
    } else {
        Isa::Portable
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn detect() -> Isa {
    Isa::Portable
}

/// Defines a function whose body is compiled once per instruction set and chosen at run time; `unsafe fn` where the body
/// relies on promises of its caller.
///
/// The body is repeated inside each wrapper, where `V` names that set's vector, so that closures in it are compiled for
/// the set, too.
macro_rules! simd_fn {
    ($(#[$meta:meta])* $vis:vis fn $name:ident<$V:ident>($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        simd_fn! { @ [] [$(#[$meta])*] [$vis] $name $V [$($arg: $ty),*] [$(-> $ret)?] $body }
    };
    ($(#[$meta:meta])* $vis:vis unsafe fn $name:ident<$V:ident>($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        simd_fn! { @ [unsafe] [$(#[$meta])*] [$vis] $name $V [$($arg: $ty),*] [$(-> $ret)?] $body }
    };
    (@ [$($unsafe:tt)?] [$(#[$meta:meta])*] [$vis:vis] $name:ident $V:ident [$($arg:ident: $ty:ty),*] [$($ret:tt)*] $body:block) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $vis $($unsafe)? fn $name($($arg: $ty),*) $($ret)* {
            #[allow(unused_imports)]
            use $crate::simd::Lanes as _;
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512dq,avx2,fma")]
                #[allow(clippy::too_many_arguments)]
                $($unsafe)? fn avx512($($arg: $ty),*) $($ret)* {
                    #[allow(dead_code)]
                    type $V = $crate::simd::Avx512;
                    $body
                }
                #[target_feature(enable = "avx2,fma")]
                #[allow(clippy::too_many_arguments)]
                $($unsafe)? fn avx2($($arg: $ty),*) $($ret)* {
                    #[allow(dead_code)]
                    type $V = $crate::simd::Avx2;
                    $body
                }
                match $crate::simd::isa() {
                    // SAFETY: `isa` returns these values only after the processor reported the features; an unsafe body
                    // has its own caller's promises.
                    $crate::simd::Isa::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: as above.
                    $crate::simd::Isa::Avx2 => return unsafe { avx2($($arg),*) },
                    $crate::simd::Isa::Portable => {}
                }
            }
            #[allow(dead_code)]
            type $V = $crate::simd::Portable;
            $body
        }
    };
}
pub(crate) use simd_fn;
