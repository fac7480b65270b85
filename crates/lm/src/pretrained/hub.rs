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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pretrained::Checkpoint;
    use std::collections::BTreeMap;
    use std::io::{BufRead, BufReader, Write};
    use std::net::{TcpListener, TcpStream};
    use std::path::Path;
    use std::sync::{Arc, Mutex};

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    /// A server that speaks the hub's paths; it lives as long as the test's process.
    #[derive(Clone)]
    struct Hub {
        address: String,
        asked: Arc<Mutex<Vec<String>>>,
    }

    impl Hub {
        /// Serves `files` of `owner/name` at revision `main`.
        fn serve(files: &[(&str, Vec<u8>)]) -> Self {
            let files: BTreeMap<String, Vec<u8>> =
                files.iter().map(|(name, body)| (format!("/owner/name/resolve/main/{name}"), body.clone())).collect();
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = format!("http://{}", listener.local_addr().unwrap());
            let hub = Self { address, asked: Arc::default() };
            let asked = hub.asked.clone();
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    // A client that hangs up is no failure of the server.
                    let _ = answer(&stream, &files, &asked);
                }
            });
            hub
        }

        fn api(&self, cache: &Path) -> Api {
            let builder = ApiBuilder::new().with_endpoint(self.address.clone()).with_progress(false);
            builder.with_cache_dir(cache.to_path_buf()).build().unwrap()
        }

        fn asked(&self) -> usize {
            self.asked.lock().unwrap().len()
        }
    }

    /// Path and first byte asked for.
    fn request(stream: &TcpStream) -> std::io::Result<(String, usize)> {
        let mut lines = BufReader::new(stream).lines();
        let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
        let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut from = 0;
        for line in lines {
            let line = line?.to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(range) = line.strip_prefix("range: bytes=") {
                from = range.split('-').next().and_then(|n| n.parse().ok()).unwrap_or(0);
            }
        }
        Ok((path, from))
    }

    fn answer(
        mut stream: &TcpStream,
        files: &BTreeMap<String, Vec<u8>>,
        asked: &Mutex<Vec<String>>,
    ) -> std::io::Result<()> {
        let (path, from) = request(stream)?;
        asked.lock().unwrap().push(path.clone());
        let Some(body) = files.get(&path) else {
            return stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        };
        // An etag for each content, as the hub has.
        let etag = body.iter().fold(7_u64, |h, b| h.wrapping_mul(31).wrapping_add(u64::from(*b)));
        let part = &body[from.min(body.len())..];
        write!(
            stream,
            "HTTP/1.1 206 Partial Content\r\nx-repo-commit: {COMMIT}\r\netag: \"{etag}\"\r\ncontent-length: {}\r\n\
             content-range: bytes {from}-{}/{}\r\nconnection: close\r\n\r\n",
            part.len(),
            body.len().saturating_sub(1),
            body.len(),
        )?;
        stream.write_all(part)
    }

    /// The smallest Llama.
    fn files() -> Vec<(&'static str, Vec<u8>)> {
        let config = br#"{"model_type": "llama", "vocab_size": 3, "hidden_size": 2, "intermediate_size": 2,
            "num_hidden_layers": 1, "num_attention_heads": 1, "max_position_embeddings": 4, "tie_word_embeddings": true}"#;
        let layer = |name: &str| format!("model.layers.0.{name}.weight");
        let square = ["q", "k", "v", "o"].map(|p| (layer(&format!("self_attn.{p}_proj")), vec![2, 2]));
        let feed = ["gate", "up", "down"].map(|p| (layer(&format!("mlp.{p}_proj")), vec![2, 2]));
        let norms = [layer("input_layernorm"), layer("post_attention_layernorm"), "model.norm.weight".into()];
        let tensors: Vec<(String, candle_core::Tensor)> = square
            .into_iter()
            .chain(feed)
            .chain(norms.map(|name| (name, vec![2])))
            .chain([("model.embed_tokens.weight".into(), vec![3, 2])])
            .map(|(name, shape)| {
                (name, candle_core::Tensor::ones(shape, candle_core::DType::F32, &candle_core::Device::Cpu).unwrap())
            })
            .collect();
        let tokenizer = br#"{"version": "1.0", "added_tokens": [],
            "model": {"type": "WordLevel", "vocab": {"a": 0, "b": 1, "c": 2}, "unk_token": "a"}}"#;
        vec![
            ("config.json", config.to_vec()),
            ("tokenizer.json", tokenizer.to_vec()),
            ("model.safetensors", safetensors::serialize(tensors, None).unwrap()),
        ]
    }

    fn id(text: &str) -> HubId {
        text.parse().unwrap()
    }

    fn opens(folder: &Path) {
        let checkpoint = Checkpoint::open(folder).unwrap();
        checkpoint.load(candle_core::DType::F32, &candle_core::Device::Cpu).unwrap();
        checkpoint.tokenizer().unwrap();
    }

    #[test]
    fn model_is_fetched_once_and_then_comes_from_the_cache() {
        let (hub, cache) = (Hub::serve(&files()), tempfile::tempdir().unwrap());
        let folder = fetch_with(&hub.api(cache.path()), &id("owner/name")).unwrap();
        assert!(folder.starts_with(cache.path()) && folder.ends_with(COMMIT));
        opens(&folder);
        let asked = hub.asked();
        assert_eq!(fetch_with(&hub.api(cache.path()), &id("owner/name")).unwrap(), folder);
        assert_eq!(hub.asked(), asked);
    }

    #[test]
    fn model_in_several_files_is_fetched_through_its_index() {
        let mut files = files();
        let (_, weights) = files.pop().unwrap();
        let index = br#"{"metadata": {}, "weight_map": {"model.norm.weight": "part-1.safetensors"}}"#;
        files.extend([("model.safetensors.index.json", index.to_vec()), ("part-1.safetensors", weights)]);
        let (hub, cache) = (Hub::serve(&files), tempfile::tempdir().unwrap());
        opens(&fetch_with(&hub.api(cache.path()), &id("owner/name")).unwrap());
    }

    #[test]
    fn one_file_is_fetched_by_its_name() {
        let (hub, cache) = (Hub::serve(&[("a.gguf", b"GGUF".to_vec())]), tempfile::tempdir().unwrap());
        let path = fetch_with(&hub.api(cache.path()), &id("owner/name:a.gguf")).unwrap();
        assert_eq!(std::fs::read(path).unwrap(), b"GGUF");
    }

    #[test]
    fn interrupted_download_is_taken_up_where_it_stopped() {
        let body: Vec<u8> = (0..100).collect();
        let (hub, cache) = (Hub::serve(&[("a.gguf", body.clone())]), tempfile::tempdir().unwrap());
        let path = fetch_with(&hub.api(cache.path()), &id("owner/name:a.gguf")).unwrap();
        let blob = std::fs::canonicalize(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::remove_file(&blob).unwrap();
        std::fs::write(blob.with_extension("part"), &body[..60]).unwrap();
        let path = fetch_with(&hub.api(cache.path()), &id("owner/name:a.gguf")).unwrap();
        assert_eq!(std::fs::read(path).unwrap(), body);
    }

    #[test]
    fn missing_model_and_missing_server_are_errors_that_name_the_file() {
        let (hub, cache) = (Hub::serve(&files()[..1]), tempfile::tempdir().unwrap());
        let error = |api: &Api, model: &str| fetch_with(api, &id(model)).unwrap_err().to_string();
        let api = hub.api(cache.path());
        assert!(error(&api, "owner/name").contains("owner/name, file \"tokenizer.json\""));
        assert!(error(&api, "owner/other").contains("owner/other, file \"config.json\""));
        let gone = Hub { address: "http://127.0.0.1:9".into(), asked: Arc::default() };
        assert!(error(&gone.api(cache.path()), "owner/third").contains("config.json"));
    }

    #[test]
    fn ids_are_read_and_paths_out_of_the_cache_refused() {
        let full = id("owner/name@refs/pr/1:dir/model.gguf");
        assert_eq!((&*full.repo, &*full.revision, &*full.file.unwrap()), ("owner/name", "refs/pr/1", "dir/model.gguf"));
        assert_eq!((id("gpt2").revision, id("gpt2").file), ("main".into(), None));
        for wrong in ["", "a/b/c", "../b", "a/..", "a/b@", "a/b:", "a/b:../x", "a/b@../x", "a/b:x//y", "a b/c", "a\\b"]
        {
            assert!(wrong.parse::<HubId>().is_err(), "{wrong}");
        }
    }
}
