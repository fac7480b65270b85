//! Models from the hub, through its cache on disk.
//!
//! `HF_HOME` moves the cache, `HF_ENDPOINT` the server; what is in the cache is not asked for again.

use super::shards::index_files;
use crate::{Error, Result};
use hf_hub::api::sync::{Api, ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Repo, RepoType};
use std::path::PathBuf;

/// A model on the hub: `owner/name`, `owner/name@revision`, and `:file` behind either for one file (GGUF).
///
/// ```
/// # use chandlery_lm::pretrained::hub::HubId;
/// let id: HubId = "owner/name@v1:model.gguf".parse().unwrap();
/// assert_eq!((&*id.repo, &*id.revision, id.file.as_deref()), ("owner/name", "v1", Some("model.gguf")));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubId {
    /// Owner and name.
    pub repo: String,
    /// Branch, tag or commit; `main` where none is given.
    pub revision: String,
    /// One file instead of a model's usual ones.
    pub file: Option<String>,
}

impl std::str::FromStr for HubId {
    type Err = Error;

    fn from_str(id: &str) -> Result<Self> {
        let (model, file) = id.split_once(':').map_or((id, None), |(model, file)| (model, Some(file)));
        let (repo, revision) = model.split_once('@').unwrap_or((model, "main"));
        let name =
            |part: &str| !part.is_empty() && !part.starts_with('.') && !part.contains(['\\', ' ', '?', '#', '%']);
        let parts: Vec<&str> = repo.split('/').collect();
        let good = parts.len() <= 2
            && parts.iter().all(|part| name(part))
            && revision.split('/').all(name)
            && file.is_none_or(|file| file.split('/').all(name));
        if !good {
            return Err(Error::config("hub id", format!("expected owner/name[@revision][:file], got {id:?}")));
        }
        Ok(Self { repo: repo.into(), revision: revision.into(), file: file.map(Into::into) })
    }
}

/// Brings a model into the cache; the result is for [`Checkpoint::open`](super::Checkpoint::open).
///
/// # Errors
/// If the server cannot be reached or lacks a file; the message names model and file.
pub fn fetch(id: &HubId) -> Result<PathBuf> {
    let api = ApiBuilder::from_env().with_progress(false).build().map_err(|e| failed(id, "", &e))?;
    fetch_with(&api, id)
}

/// As [`fetch`], from another server or into another cache.
///
/// # Errors
/// As [`fetch`].
pub fn fetch_with(api: &Api, id: &HubId) -> Result<PathBuf> {
    let repo = api.repo(Repo::with_revision(id.repo.clone(), RepoType::Model, id.revision.clone()));
    if let Some(file) = &id.file {
        return get(&repo, id, file);
    }
    let config = get(&repo, id, "config.json")?;
    get(&repo, id, "tokenizer.json")?;
    match repo.get("model.safetensors") {
        Ok(_) => {}
        Err(whole) => {
            // Models in several files have an index instead.
            let index =
                repo.get("model.safetensors.index.json").map_err(|_| failed(id, "model.safetensors", &whole))?;
            for file in index_files(&index)? {
                get(&repo, id, &file)?;
            }
        }
    }
    Ok(config.parent().map(Into::into).unwrap_or_default())
}

fn get(repo: &ApiRepo, id: &HubId, file: &str) -> Result<PathBuf> {
    repo.get(file).map_err(|e| failed(id, file, &e))
}

fn failed(id: &HubId, file: &str, e: &ApiError) -> Error {
    Error::Hub { model: id.repo.clone(), file: file.to_string(), what: e.to_string() }
}
