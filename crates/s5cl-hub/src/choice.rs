//! Which file of a repository holds the weights.

/// In the order in which they are taken.
const USUAL: [&str; 2] = ["model.safetensors", "pytorch_model.bin"];
/// What weights are saved as.
const ENDINGS: [&str; 4] = [".safetensors", ".bin", ".pth", ".pt"];

/// The file of a repository that holds the weights: `model.safetensors`, else
/// `pytorch_model.bin`, else the only `.safetensors` in any folder.
///
/// # Errors
///
/// Where none of these is there, the files that might be meant, sorted.
///
/// # Example
///
/// ```
/// use s5cl_hub::choose_file;
///
/// assert_eq!(choose_file(&["README.md", "vit.safetensors"]), Ok("vit.safetensors"));
/// let two = ["b.safetensors", "a.safetensors"];
/// assert_eq!(choose_file(&two), Err(vec!["a.safetensors", "b.safetensors"]));
/// ```
pub fn choose_file<S: AsRef<str>>(names: &[S]) -> Result<&str, Vec<&str>> {
    let names = || names.iter().map(AsRef::as_ref);
    if let Some(usual) = USUAL.iter().find_map(|usual| names().find(|name| name == usual)) {
        return Ok(usual);
    }
    let mut safetensors = names().filter(|name| name.ends_with(ENDINGS[0]));
    if let (Some(only), None) = (safetensors.next(), safetensors.next()) {
        return Ok(only);
    }
    let is_weights = |name: &&str| ENDINGS.iter().any(|ending| name.ends_with(ending));
    let mut candidates: Vec<&str> = names().filter(is_weights).collect();
    candidates.sort_unstable();
    Err(candidates)
}

#[cfg(test)]
mod tests {
    use super::choose_file;

    #[test]
    fn choice_takes_the_usual_names_first() {
        let all = ["a.safetensors", "pytorch_model.bin", "model.safetensors"];
        assert_eq!(choose_file(&all), Ok("model.safetensors"));
        assert_eq!(choose_file(&all[..2]), Ok("pytorch_model.bin"));
        assert_eq!(choose_file(&all[..1]), Ok("a.safetensors"));
        // A usual name in a folder is not at its usual place.
        assert_eq!(choose_file(&["a.safetensors", "x/pytorch_model.bin"]), Ok("a.safetensors"));
    }

    #[test]
    fn choice_among_several_is_the_users() {
        let names = ["x/b.pth", "README.md", "c.safetensors", "a/model.safetensors"];
        let candidates = vec!["a/model.safetensors", "c.safetensors", "x/b.pth"];
        assert_eq!(choose_file(&names), Err(candidates));
        assert_eq!(choose_file(&["README.md"]), Err(vec![]));
        assert_eq!(choose_file::<&str>(&[]), Err(vec![]));
    }
}
