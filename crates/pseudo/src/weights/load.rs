//! Published weights into a model.

use chandlery_nn::{LoadReport, ParamStore, Result, Strictness, load_tensors};
use std::path::Path;

/// Loads a published safetensors file by name. A head of another number of classes stays as it started and is reported
/// under [`mismatched`](LoadReport::mismatched); everything else must fit exactly, so weights of another architecture are
/// refused.
///
/// `head`: path of the head's parameters, such as `fc`.
///
/// # Errors
/// If the file is damaged, or is not of this architecture: the error names what is missing, not expected and of another
/// shape, and nothing is changed.
pub fn load_pretrained(store: &ParamStore, path: &Path, head: &str) -> Result<LoadReport> {
    let mut tensors = load_tensors(path)?;
    let mut kept = Vec::new();
    for name in ["weight", "bias"].map(|part| format!("{head}.{part}")) {
        let (Some(var), Some(found)) = (store.get(&name), tensors.get(&name)) else { continue };
        if var.dims() != found.dims() {
            kept.push((name.clone(), var.dims().to_vec(), found.dims().to_vec()));
            tensors.insert(name, var.as_detached_tensor().copy()?);
        }
    }
    let mut report = store.assign(path, tensors, Strictness::Exact)?;
    report.loaded.retain(|name| !kept.iter().any(|(head, ..)| head == name));
    report.mismatched = kept;
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};
    use chandlery_nn::{Linear, ParamStore};

    fn model(seed: u64, width: usize, classes: usize) -> ParamStore {
        let store = ParamStore::new(seed, DType::F32, &Device::Cpu);
        Linear::new(&store.root().pp("body"), 3, width, true).unwrap();
        Linear::new(&store.root().pp("fc"), width, classes, true).unwrap();
        store
    }

    fn values(store: &ParamStore, name: &str) -> Vec<f32> {
        store.get(name).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn only_a_head_of_other_classes_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("published.safetensors");
        let published = model(1, 4, 10);
        published.save(&path).unwrap();
        let same = model(2, 4, 10);
        assert!(load_pretrained(&same, &path, "fc").unwrap().is_exact());
        assert_eq!(values(&same, "fc.weight"), values(&published, "fc.weight"));

        let other = model(2, 4, 3);
        let start = values(&other, "fc.weight");
        let report = load_pretrained(&other, &path, "fc").unwrap();
        assert_eq!(report.loaded, ["body.bias", "body.weight"]);
        assert_eq!(report.mismatched[1], ("fc.bias".into(), vec![3], vec![10]));
        assert_eq!(values(&other, "body.weight"), values(&published, "body.weight"));
        assert_eq!(values(&other, "fc.weight"), start);
    }

    #[test]
    fn other_architecture_is_refused_and_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("published.safetensors");
        model(1, 4, 10).save(&path).unwrap();
        let other = model(2, 5, 3);
        Linear::new(&other.root().pp("more"), 2, 2, false).unwrap();
        let before = values(&other, "fc.weight");
        let why = load_pretrained(&other, &path, "fc").unwrap_err().to_string();
        for part in [
            "published.safetensors does not fit",
            "1 missing (more.weight)",
            "body.weight: expected [5, 3], found [4, 3]",
        ] {
            assert!(why.contains(part), "{why}");
        }
        assert_eq!(values(&other, "fc.weight"), before);
    }
}
