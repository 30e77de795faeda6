//! What CUDA needs of a machine, and where it is looked for.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Libraries by name, with how the names of their files begin, and how to get them.
const LIBRARIES: [(&str, &str, &str); 4] = [
    ("cuBLAS", "libcublas.so", TOOLKIT),
    ("cuRAND", "libcurand.so", TOOLKIT),
    ("NVRTC", "libnvrtc.so", TOOLKIT),
    ("cuDNN 9", "libcudnn.so.9", "https://developer.nvidia.com/cudnn-downloads"),
];
const TOOLKIT: &str = "CUDA toolkit, https://developer.nvidia.com/cuda-downloads";
const DRIVER: (&str, &str) = ("libcuda.so.1", "https://www.nvidia.com/drivers");

/// The places of a machine in which programs and libraries are.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// Folders of programs.
    pub(super) programs: Vec<PathBuf>,
    /// Folders of libraries.
    pub(super) libraries: Vec<PathBuf>,
    /// CUDA's compiler, where a variable names it.
    pub(super) nvcc: Option<PathBuf>,
    /// Folders of a toolkit.
    pub(super) toolkits: Vec<PathBuf>,
    /// The files of the libraries that the system's loader knows.
    pub(super) known: Vec<PathBuf>,
}

impl Places {
    /// Those of this machine.
    pub(super) fn here() -> Self {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let folders = |name: &str| -> Vec<PathBuf> {
            variable(name).iter().flat_map(std::env::split_paths).collect()
        };
        let mut toolkits: Vec<PathBuf> = ["CUDA_HOME", "CUDA_PATH"]
            .into_iter()
            .filter_map(variable)
            .map(PathBuf::from)
            .collect();
        if toolkits.is_empty() {
            toolkits.push("/usr/local/cuda".into());
        }
        Self {
            programs: folders("PATH"),
            libraries: folders("LD_LIBRARY_PATH"),
            nvcc: variable("NVCC").map(PathBuf::from),
            toolkits,
            known: known_libraries(),
        }
    }

    /// CUDA's compiler.
    pub(super) fn nvcc(&self) -> Option<PathBuf> {
        let within = self.toolkits.iter().map(|toolkit| toolkit.join("bin/nvcc"));
        let mut candidates = self.nvcc.iter().cloned().chain(within);
        candidates.find(|nvcc| nvcc.is_file()).or_else(|| self.program("nvcc"))
    }

    fn program(&self, name: &str) -> Option<PathBuf> {
        self.programs.iter().map(|folder| folder.join(name)).find(|program| program.is_file())
    }

    /// The folder of a library whose file's name begins so.
    fn library(&self, begins: &str) -> Option<PathBuf> {
        let is_it = |path: &Path| {
            path.file_name().and_then(OsStr::to_str).is_some_and(|name| name.starts_with(begins))
        };
        let of_toolkits = self
            .toolkits
            .iter()
            .flat_map(|toolkit| ["lib64", "lib"].map(|folder| toolkit.join(folder)));
        let has_it = |folder: &PathBuf| {
            let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
            entries.map(|entry| entry.path()).any(|path| is_it(&path))
        };
        let found = self.libraries.iter().cloned().chain(of_toolkits).find(has_it);
        found.or_else(|| Some(self.known.iter().find(|path| is_it(path))?.parent()?.to_owned()))
    }

    /// Whether a driver of NVIDIA is there.
    pub(super) fn has_driver(&self) -> bool {
        self.library(DRIVER.0).is_some() || self.program("nvidia-smi").is_some()
    }

    /// What CUDA needs and is not there, each with how to get it.
    pub(super) fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        if self.library(DRIVER.0).is_none() {
            missing.push(format!("the NVIDIA driver ({}; {})", DRIVER.0, DRIVER.1));
        }
        if self.nvcc().is_none() {
            let how = "in PATH, CUDA_HOME/bin or NVCC";
            missing.push(format!("its compiler nvcc ({how}; {TOOLKIT})"));
        }
        for (name, begins, how) in LIBRARIES {
            if self.library(begins).is_none() {
                missing.push(format!("{name} ({begins}; {how})"));
            }
        }
        missing
    }

    /// The folders of all libraries that CUDA needs and the loader may not know, as the value of a
    /// variable that names folders of libraries.
    pub(super) fn library_path(&self) -> OsString {
        let mut folders = self.libraries.clone();
        for folder in LIBRARIES.iter().filter_map(|(_, begins, _)| self.library(begins)) {
            if !folders.contains(&folder) {
                folders.push(folder);
            }
        }
        // A folder whose name has a colon cannot be named there.
        std::env::join_paths(folders).unwrap_or_default()
    }
}

/// Whether this machine has a driver of NVIDIA.
pub(super) fn has_driver() -> bool {
    Path::new("/proc/driver/nvidia").is_dir() || Places::here().has_driver()
}

/// The files of the libraries that the system's loader knows.
fn known_libraries() -> Vec<PathBuf> {
    // Not every user has the folder of this program in PATH.
    let listed = ["ldconfig", "/sbin/ldconfig"]
        .into_iter()
        .find_map(|program| Command::new(program).arg("-p").output().ok());
    let listed = listed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let file = |line: &str| Some(PathBuf::from(line.split_once(" => ")?.1));
    listed.unwrap_or_default().lines().filter_map(file).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::Places;

    fn touch(path: &Path) -> anyhow::Result<()> {
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new("")))?;
        Ok(std::fs::write(path, "")?)
    }

    #[test]
    fn places_tell_everything_that_is_missing_and_how_to_get_it() {
        let missing = Places::default().missing();
        let expected = ["NVIDIA driver", "nvcc", "cuBLAS", "cuRAND", "NVRTC", "cuDNN 9"];
        assert_eq!(missing.len(), expected.len(), "{missing:?}");
        for (line, name) in missing.iter().zip(expected) {
            assert!(line.contains(name) && line.contains("https://"), "{line}");
        }
        assert!(!Places::default().has_driver());
    }

    #[test]
    fn places_find_each_thing_where_it_may_be() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let at = |name: &str| folder.path().join(name);
        touch(&at("toolkit/bin/nvcc"))?;
        touch(&at("toolkit/lib64/libcublas.so.13"))?;
        touch(&at("toolkit/lib/libnvrtc.so"))?;
        touch(&at("own/libcurand.so.10"))?;
        let mut places = Places {
            programs: vec![at("programs")],
            libraries: vec![at("absent"), at("own")],
            nvcc: None,
            toolkits: vec![at("other"), at("toolkit")],
            known: vec![at("system/libcudnn.so.9"), at("system/libcuda.so.1")],
        };
        assert_eq!(places.missing(), [""; 0]);
        assert_eq!(places.nvcc(), Some(at("toolkit/bin/nvcc")));
        let path = places.library_path();
        let folders: Vec<_> = std::env::split_paths(&path).collect();
        let names = ["absent", "own", "toolkit/lib64", "toolkit/lib", "system"];
        assert_eq!(folders, names.map(at));

        // Another cuDNN, and no compiler.
        places.known = vec![at("system/libcudnn.so.8"), at("system/libcuda.so.1")];
        places.toolkits = vec![at("toolkit/lib64/..")];
        std::fs::remove_file(at("toolkit/bin/nvcc"))?;
        let missing = places.missing();
        assert!(missing.len() == 2 && missing[0].contains("nvcc"), "{missing:?}");
        assert!(missing[1].starts_with("cuDNN 9 (libcudnn.so.9;"), "{missing:?}");
        touch(&at("programs/nvcc"))?;
        assert_eq!(places.nvcc(), Some(at("programs/nvcc")));
        places.nvcc = Some(at("programs/nvcc"));
        assert_eq!(places.missing().len(), 1);

        touch(&at("programs/nvidia-smi"))?;
        places.known.clear();
        assert!(places.has_driver(), "told by its program");
        Ok(())
    }
}
