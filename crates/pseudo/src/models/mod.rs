//! Convolutional classifiers with a pooled linear head.
//!
//! A [`Classifier`] is a [`Backbone`], which ends in feature maps A [b, k, h, w], the mean over their places and a linear
//! head. Class activation maps need the maps and the head's weight; caching and gradient maps need a cut at a stage.

mod classifier;
mod config;
mod efficientnet;
mod resnet;
#[cfg(test)]
mod tests;
mod unit;
#[cfg(feature = "vit")]
mod vit;

pub use classifier::{Backbone, Classifier};
pub use config::{Input, ModelConfig, NORM_PARAMS, Rates, Stage};
pub use efficientnet::EfficientNetConfig;
pub use resnet::{Depth, ResNetConfig, Stem};
#[cfg(feature = "vit")]
pub use vit::VitConfig;
