//! Descriptions of networks: shapes, exact parameter counts and flops, without a tensor.
//!
//! A description is a TOML file with one table that names the family: `[gpt]` (dense or with experts), `[recommender]`,
//! `[resnet]` or `[reader]`. [`ModelSpec::preset`] knows published shapes and the project's own.
//!
//! ```
//! use chandlery_parallel::model::ModelSpec;
//! let spec = ModelSpec::preset("gpt-175b")?;
//! assert_eq!(spec.params()? / 1_000_000_000, 174);
//! # Ok::<(), chandlery_parallel::model::ModelError>(())
//! ```

mod error;
mod presets;
mod reader;
mod recommender;
mod resnet;
mod transformer;

pub use error::ModelError;
pub(crate) use error::size;
pub use presets::preset_names;
pub use reader::Reader;
pub use recommender::Recommender;
pub(crate) use resnet::bottleneck;
pub use resnet::{Convolution, EXPANSION, Resnet};
pub use transformer::{Experts, MAX_LAYERS, MAX_SIZE, Transformer};

use serde::{Deserialize, Serialize};
use std::path::Path;

/// A network to be trained: a name, where its numbers come from, and its shape.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "ModelFile", into = "ModelFile")]
pub struct ModelSpec {
    /// Short name, such as `gpt-175b`.
    pub name: String,
    /// Where the numbers come from.
    pub source: String,
    /// The shape.
    pub network: Network,
}

/// The families of networks.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Network {
    /// Decoder transformer, dense or with experts.
    Gpt(Transformer),
    /// Sparse tables and a dense network.
    Recommender(Recommender),
    /// Residual convolutional network.
    Resnet(Resnet),
    /// Recurrent span reader.
    Reader(Reader),
}

/// A description as it stands in a file: exactly one of the tables.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ModelFile {
    name: String,
    #[serde(default)]
    source: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gpt: Option<Transformer>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    recommender: Option<Recommender>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    resnet: Option<Resnet>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reader: Option<Reader>,
}

impl ModelSpec {
    /// Reads a description; `place` names the text in errors.
    ///
    /// # Errors
    /// `Syntax` for text that is no description, `Range`, `Indivisible` or `Overflow` for impossible shapes.
    pub fn parse(text: &str, place: &str) -> Result<Self, ModelError> {
        let syntax = |message: String| ModelError::Syntax { place: place.into(), message };
        let file: ModelFile = toml::from_str(text).map_err(|e| syntax(e.to_string()))?;
        Self::try_from(file).map_err(|e| match e {
            ModelError::Syntax { message, .. } => syntax(message),
            other => other,
        })
    }

    /// Reads a description from a file.
    ///
    /// # Errors
    /// `Syntax` when the file cannot be read, else as [`ModelSpec::parse`].
    pub fn load(path: &Path) -> Result<Self, ModelError> {
        let place = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|e| ModelError::Syntax { place: place.clone(), message: e.to_string() })?;
        Self::parse(&text, &place)
    }

    /// A description that comes with the crate; [`preset_names`] lists them.
    ///
    /// # Errors
    /// `UnknownPreset`.
    pub fn preset(name: &str) -> Result<Self, ModelError> {
        presets::find(name)
    }

    /// A transformer under a name, checked.
    ///
    /// # Errors
    /// As [`ModelSpec::validate`].
    pub fn gpt(name: &str, source: &str, shape: Transformer) -> Result<Self, ModelError> {
        let spec = Self { name: name.into(), source: source.into(), network: Network::Gpt(shape) };
        spec.validate().map(|()| spec)
    }

    /// Checks every field.
    ///
    /// # Errors
    /// `Range`, `Indivisible` or `Overflow`, naming the field.
    pub fn validate(&self) -> Result<(), ModelError> {
        match &self.network {
            Network::Gpt(m) => m.validate(&self.name),
            Network::Recommender(m) => m.validate(&self.name),
            Network::Resnet(m) => m.validate(&self.name),
            Network::Reader(m) => m.validate(&self.name),
        }
    }

    /// The transformer, where the network is one.
    pub fn transformer(&self) -> Option<&Transformer> {
        match &self.network {
            Network::Gpt(shape) => Some(shape),
            _ => None,
        }
    }

    /// All parameters.
    ///
    /// # Errors
    /// `Overflow` beyond 64 bits.
    pub fn params(&self) -> Result<u64, ModelError> {
        match &self.network {
            Network::Gpt(m) => m.params(&self.name),
            Network::Recommender(m) => m.params(&self.name),
            Network::Resnet(m) => Ok(m.params()),
            Network::Reader(m) => Ok(m.params()),
        }
    }

    /// Forward flops for `batch` samples (sequences, images, questions or clicks); a backward pass takes twice that.
    pub fn forward_flops(&self, batch: f64) -> f64 {
        match &self.network {
            Network::Gpt(m) => m.forward_flops(batch),
            Network::Recommender(m) => m.dense_flops(batch),
            Network::Resnet(m) => m.forward_flops(batch),
            Network::Reader(m) => m.forward_flops(batch),
        }
    }

    /// The description as TOML, as [`ModelSpec::parse`] reads it.
    ///
    /// # Errors
    /// `Syntax` where a number does not fit TOML's signed 64 bits.
    pub fn to_toml(&self) -> Result<String, ModelError> {
        toml::to_string(&ModelFile::from(self.clone()))
            .map_err(|e| ModelError::Syntax { place: self.name.clone(), message: e.to_string() })
    }
}

impl TryFrom<ModelFile> for ModelSpec {
    type Error = ModelError;

    fn try_from(file: ModelFile) -> Result<Self, ModelError> {
        let mut found: Vec<Network> = Vec::new();
        found.extend(file.gpt.map(Network::Gpt));
        found.extend(file.recommender.map(Network::Recommender));
        found.extend(file.resnet.map(Network::Resnet));
        found.extend(file.reader.map(Network::Reader));
        let count = found.len();
        let (Some(network), 1) = (found.pop(), count) else {
            let message = format!("expected one of [gpt], [recommender], [resnet], [reader], got {count} of them");
            return Err(ModelError::Syntax { place: file.name, message });
        };
        let spec = Self { name: file.name, source: file.source, network };
        spec.validate().map(|()| spec)
    }
}

impl From<ModelSpec> for ModelFile {
    fn from(spec: ModelSpec) -> Self {
        let mut file = Self { name: spec.name, source: spec.source, ..Self::default() };
        match spec.network {
            Network::Gpt(m) => file.gpt = Some(m),
            Network::Recommender(m) => file.recommender = Some(m),
            Network::Resnet(m) => file.resnet = Some(m),
            Network::Reader(m) => file.reader = Some(m),
        }
        file
    }
}

#[cfg(test)]
mod tests;
