use super::*;
use proptest::prelude::*;

fn edit(text: &str, from: &str, to: &str) -> Result<ModelSpec, ModelError> {
    assert!(text.contains(from));
    ModelSpec::parse(&text.replace(from, to), "test")
}

const SMALL: &str = "name = \"t\"\n[gpt]\nlayers = 2\nhidden = 8\nheads = 2\nsequence = 4\nvocabulary = 16\n";

#[test]
fn every_preset_parses_under_its_own_name_and_survives_a_round_trip() {
    for name in preset_names() {
        let spec = ModelSpec::preset(name).unwrap();
        assert_eq!(spec.name, name);
        assert!(!spec.source.is_empty());
        assert!(spec.forward_flops(1.0) > 0.0);
        let again = ModelSpec::parse(&spec.to_toml().unwrap(), "round trip").unwrap();
        assert_eq!(again, spec);
    }
}

#[test]
fn published_parameter_counts_are_met() {
    for (name, billions, tolerance) in [
        ("gpt-1.7b", 1.7, 0.03),
        ("gpt-1t", 1008.0, 0.003),
        ("gpt-175b", 175.0, 0.005),
        ("ernie-260b", 261.4, 0.001),
        ("llama2-7b", 6.738, 0.001),
        ("llama3-405b", 405.85, 0.001),
        ("mixtral-8x7b", 46.70, 0.001),
        ("smollm2-135m", 0.134515, 0.001),
        ("gpt2-xl", 1.5576, 0.001),
        ("resnet-50", 0.025557032, 1e-9),
    ] {
        let params = ModelSpec::preset(name).unwrap().params().unwrap() as f64 / 1e9;
        assert!((params / billions - 1.0).abs() <= tolerance, "{name}: {params} B against {billions} B");
    }
}

#[test]
fn resnet_50_takes_the_published_multiplications() {
    let flops = ModelSpec::preset("resnet-50").unwrap().forward_flops(1.0);
    assert!((flops / 2.0 / 4.089e9 - 1.0).abs() < 0.001, "{flops}");
}

#[test]
fn forward_flops_equal_the_published_closed_form() {
    let spec = ModelSpec::preset("gpt-145b").unwrap();
    let m = spec.transformer().unwrap();
    let (l, h, s, v) = (m.layers as f64, m.hidden as f64, m.sequence as f64, m.vocabulary as f64);
    let published = 72.0 * 7.0 * s * l * h * h * (1.0 + s / (6.0 * h) + v / (12.0 * l * h));
    assert!((3.0 * spec.forward_flops(7.0) / published - 1.0).abs() < 1e-12);
}

#[test]
fn experts_count_per_layer_that_has_them() {
    let text = format!("{SMALL}biases = false\n[gpt.experts]\ncount = 4\nactive = 2\nevery = 2\n");
    let spec = ModelSpec::parse(&text, "test").unwrap();
    let m = spec.transformer().unwrap();
    assert!(!m.has_experts(0) && m.has_experts(1));
    let layers = m.layer_params("t", 0).unwrap() + m.layer_params("t", 1).unwrap();
    let (first, last) = m.edge_params();
    assert_eq!(spec.params().unwrap(), layers + first + last);
    assert_eq!(m.layer_params("t", 1).unwrap() - m.layer_params("t", 0).unwrap(), 3 * m.ffn_params(32) + 8 * 4);
}

#[test]
fn heads_that_do_not_divide_are_named() {
    let error = edit(SMALL, "heads = 2", "heads = 3").unwrap_err();
    assert_eq!(error.to_string(), "model `t`: gpt.hidden 8 is not divisible by gpt.heads 3");
    let error = edit(SMALL, "heads = 2", "heads = 2\nkv_heads = 4").unwrap_err();
    assert_eq!(error.to_string(), "model `t`: gpt.heads 2 is not divisible by gpt.kv_heads 4");
}

#[test]
fn zero_and_enormous_sizes_are_refused_with_the_range() {
    for (from, to) in [
        ("layers = 2", "layers = 0"),
        ("hidden = 8", "hidden = 0"),
        ("heads = 2", "heads = 0"),
        ("sequence = 4", "sequence = 0"),
        ("vocabulary = 16", "vocabulary = 99999999999"),
        ("layers = 2", "layers = 9223372036854775807"),
    ] {
        let error = edit(SMALL, from, to).unwrap_err();
        assert!(matches!(error, ModelError::Range { .. }), "{error}");
        assert!(error.to_string().contains("expected a whole number from 1 to"), "{error}");
    }
}

#[test]
fn parameters_beyond_64_bits_are_an_overflow_not_a_wrap() {
    let text = SMALL
        .replace("layers = 2", "layers = 100000")
        .replace("hidden = 8", "hidden = 16777216\nffn_hidden = 16777216");
    let error = ModelSpec::parse(&text, "test").unwrap_err();
    assert!(matches!(error, ModelError::Overflow { .. }), "{error}");
}

#[test]
fn unknown_fields_negative_numbers_and_two_families_are_syntax_errors() {
    for text in [
        format!("{SMALL}colour = 3\n"),
        SMALL.replace("layers = 2", "layers = -2"),
        format!("{SMALL}[resnet]\nimage = 64\nchannels = 3\nwidth = 8\nblocks = [1]\nclasses = 2\n"),
        "name = \"t\"\n".into(),
        "name = ".into(),
    ] {
        let error = ModelSpec::parse(&text, "here.toml").unwrap_err();
        assert!(matches!(error, ModelError::Syntax { .. }), "{error}");
        assert!(error.to_string().starts_with("model description here.toml: "), "{error}");
    }
}

#[test]
fn an_unknown_preset_is_answered_with_the_known_ones() {
    let error = ModelSpec::preset("gpt-9000").unwrap_err().to_string();
    assert!(error.contains("`gpt-9000`") && error.contains("poet-base"), "{error}");
}

#[test]
fn a_recommender_counts_tables_and_perceptrons() {
    let spec = ModelSpec::preset("dlrm-criteo").unwrap();
    let Network::Recommender(m) = &spec.network else { panic!("a recommender") };
    assert_eq!(m.sparse_params("dlrm").unwrap(), 33_762_577 * 16);
    assert_eq!(m.interaction_width(), 27 * 26 / 2 + 16);
    assert!(m.lookup_bytes(2.0, 4.0) == 2.0 * 26.0 * 16.0 * 4.0);
}

proptest! {
    /// Any edit of a description is read or refused, never a panic; what is read survives its own checks.
    #[test]
    fn damaged_descriptions_are_refused_or_valid(
        preset in 0..preset_names().len(),
        at in any::<prop::sample::Index>(),
        length in 0usize..12,
        put in "[ -~]{0,12}",
    ) {
        let text = ModelSpec::preset(preset_names()[preset]).unwrap().to_toml().unwrap();
        let start = at.index(text.len());
        let end = (start + length).min(text.len());
        let damaged = format!("{}{put}{}", &text[..start], &text[end..]);
        if let Ok(spec) = ModelSpec::parse(&damaged, "fuzz") {
            prop_assert!(spec.validate().is_ok());
            prop_assert!(spec.params().is_ok());
            prop_assert!(spec.forward_flops(1.0).is_finite());
        }
    }
}
