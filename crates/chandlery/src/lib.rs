//! The Chandlery crates behind one name; take only what you need through features.

pub use chandlery_kernels as kernels;
#[cfg(feature = "lm")]
pub use chandlery_lm as lm;
#[cfg(feature = "nn")]
pub use chandlery_nn as nn;
#[cfg(feature = "parallel")]
pub use chandlery_parallel as parallel;
#[cfg(feature = "pseudo")]
pub use chandlery_pseudo as pseudo;
#[cfg(feature = "train")]
pub use chandlery_train as train;
