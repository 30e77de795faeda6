//! A CPU that plays a GPU: the kernels compiled as C++, see `emulated.hpp`.
#![expect(unsafe_code, reason = "the kernels are in a library that is loaded at run time")]

use std::ffi::{CString, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use candle_core::{Result, bail};

use super::{Argument, Gpu, Launch, Memory, Plain, Pointer};

/// Runs kernels on the CPU, one at a time.
pub(crate) struct EmulatedGpu {
    library: &'static Library,
    /// Whether the threads of a block run in the opposite order.
    is_backwards: bool,
}

/// Runs a check on kernels, with their threads in either order; says so where it cannot.
pub(crate) fn with_emulated_gpu(check: impl Fn(&EmulatedGpu)) {
    match library() {
        Ok(library) => {
            for is_backwards in [false, true] {
                check(&EmulatedGpu { library, is_backwards });
            }
        }
        Err(reason) => println!("skipped: {reason}"),
    }
}

/// Memory that ends where reading is an error.
pub(crate) struct EmulatedMemory {
    start: *mut c_void,
    bytes: usize,
    free: unsafe extern "C" fn(*mut c_void, usize),
}

impl Drop for EmulatedMemory {
    fn drop(&mut self) {
        // SAFETY: it was allocated with this number of bytes, and is freed once.
        unsafe { (self.free)(self.start, self.bytes) }
    }
}

impl EmulatedGpu {
    /// The values of a part of memory.
    pub(crate) fn download<T: Plain>(&self, memory: &Memory<Self, T>) -> Vec<T> {
        let start = memory.pointer.address as *const T;
        // SAFETY: the memory holds so many values, any bits are one, and no kernel runs.
        unsafe { std::slice::from_raw_parts(start, memory.len) }.to_vec()
    }

    /// Values at a pointer, for what stands in for a library of the device.
    ///
    /// # Safety
    ///
    /// There must be so many values, and nothing else may change them meanwhile.
    pub(crate) unsafe fn values<'a, T: Plain>(&self, at: Pointer<T>, len: usize) -> &'a mut [T] {
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(at.address as *mut T, len) }
    }
}

impl Gpu for EmulatedGpu {
    type Memory = EmulatedMemory;

    fn allocate_bytes(&self, bytes: usize) -> Result<EmulatedMemory> {
        // SAFETY: any number of bytes may be asked for.
        let start = unsafe { (self.library.allocate)(bytes) };
        if start.is_null() {
            bail!("no memory for {bytes} bytes")
        }
        Ok(EmulatedMemory { start, bytes, free: self.library.free })
    }

    fn address(&self, memory: &EmulatedMemory) -> u64 {
        memory.start as u64
    }

    fn upload<T: Plain>(&self, values: &[T]) -> Result<Memory<Self, T>> {
        let memory = self.allocate::<T>(values.len())?;
        // SAFETY: the memory was just made for so many values.
        unsafe { self.values(memory.pointer, values.len()) }.copy_from_slice(values);
        Ok(memory)
    }

    fn clear<T: Plain>(&self, memory: &mut Memory<Self, T>) -> Result<()> {
        // SAFETY: the memory holds so many values, for which zero bytes are one.
        unsafe { std::ptr::write_bytes(memory.pointer.address as *mut T, 0, memory.len) };
        Ok(())
    }

    fn n_multiprocessors(&self) -> u32 {
        // Few, so that blocks that take several parts of the work are seen with little work.
        3
    }

    unsafe fn launch(&self, launch: &Launch, arguments: &[Argument<'_>]) -> Result<()> {
        let Ok(name) = CString::new(launch.kernel) else { bail!("a name with a zero") };
        let mut addresses: Vec<*mut c_void> = arguments.iter().map(Argument::address).collect();
        let _one_at_a_time = self.library.lock();
        // SAFETY: the caller's promise; grid and block are three numbers each.
        let is_known = unsafe {
            (self.library.launch)(
                name.as_ptr(),
                launch.grid.as_ptr(),
                launch.block.as_ptr(),
                launch.shared_bytes,
                addresses.as_mut_ptr(),
                c_int::from(self.is_backwards),
            )
        };
        if is_known == 0 {
            bail!("{} exports no kernel {}", launch.module, launch.kernel)
        }
        Ok(())
    }
}

type LaunchFunction = unsafe extern "C" fn(
    *const c_char,
    *const u32,
    *const u32,
    u32,
    *mut *mut c_void,
    c_int,
) -> c_int;

struct Library {
    launch: LaunchFunction,
    allocate: unsafe extern "C" fn(usize) -> *mut c_void,
    free: unsafe extern "C" fn(*mut c_void, usize),
    one_at_a_time: Mutex<()>,
}

impl Library {
    fn lock(&self) -> MutexGuard<'_, ()> {
        self.one_at_a_time.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The kernels, compiled and loaded once.
fn library() -> std::result::Result<&'static Library, String> {
    static LIBRARY: OnceLock<std::result::Result<Library, String>> = OnceLock::new();
    LIBRARY.get_or_init(|| load(&compile()?)).as_ref().map_err(Clone::clone)
}

/// The C++ compiler, as make knows it.
fn compiler() -> String {
    std::env::var("CXX").unwrap_or_else(|_unset| "c++".to_owned())
}

fn compile() -> std::result::Result<PathBuf, String> {
    let compiler = compiler();
    if Command::new(&compiler).arg("--version").output().is_err() {
        return Err(format!("no C++ compiler {compiler} to run CUDA kernels on the CPU"));
    }
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = vec![crate_folder.join("src/cuda/emulated.cpp")];
    kernels_below(&crate_folder.join("src"), &mut sources);
    sources.sort();
    let objects = Path::new(env!("OUT_DIR")).join(format!("emulated-{}", std::process::id()));
    std::fs::create_dir_all(&objects).expect("the build's folder can be written");
    let compiled: Vec<PathBuf> = std::thread::scope(|scope| {
        let compile = |source: &Path| {
            let name = source.file_name().expect("a file has a name");
            let object = objects.join(name).with_extension("o");
            run(Command::new(&compiler)
                .args(["-std=c++17", "-O2", "-march=native", "-fPIC", "-ffp-contract=off"])
                .args(["-Wall", "-Wno-unknown-pragmas", "-Wno-unused-function"])
                .args(["-Werror", "-DS5CL_EMULATED", "-x", "c++", "-c"])
                .arg(source)
                .args(["-I", &crate_folder.join("src/cuda").to_string_lossy(), "-o"])
                .arg(&object));
            object
        };
        let tasks: Vec<_> =
            sources.iter().map(|source| scope.spawn(move || compile(source))).collect();
        tasks.into_iter().map(|task| task.join().expect("every kernel compiles")).collect()
    });
    let library = objects.join("libkernels.so");
    run(Command::new(&compiler).arg("-shared").args(&compiled).arg("-o").arg(&library));
    Ok(library)
}

fn kernels_below(folder: &Path, sources: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("the sources are there").flatten() {
        let path = entry.path();
        if path.is_dir() {
            kernels_below(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "cu") {
            sources.push(path);
        }
    }
}

fn run(command: &mut Command) {
    let output = command.output().expect("the compiler starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

unsafe extern "C" {
    fn dlopen(file: *const c_char, flags: c_int) -> *mut c_void;
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
}

fn load(library: &Path) -> std::result::Result<Library, String> {
    /// Resolves every symbol at once.
    const RTLD_NOW: c_int = 2;
    let path = CString::new(library.to_string_lossy().as_bytes()).expect("a path without zeros");
    // SAFETY: the library was compiled just now, and what it runs at its start enters names only.
    let handle = unsafe { dlopen(path.as_ptr(), RTLD_NOW) };
    // What is loaded stays when its file is gone.
    let _ = library.parent().map(std::fs::remove_dir_all);
    assert!(!handle.is_null(), "the compiled kernels cannot be loaded");
    let symbol = |name: &std::ffi::CStr| {
        // SAFETY: the handle is that of a library, which is never closed.
        let symbol = unsafe { dlsym(handle, name.as_ptr()) };
        assert!(!symbol.is_null(), "{name:?} is not in the library");
        symbol
    };
    // SAFETY: these are the types with which `emulated.cpp` defines the functions.
    unsafe {
        Ok(Library {
            launch: std::mem::transmute::<*mut c_void, LaunchFunction>(symbol(c"emulated_launch")),
            allocate: std::mem::transmute::<
                *mut c_void,
                unsafe extern "C" fn(usize) -> *mut c_void,
            >(symbol(c"emulated_allocate")),
            free: std::mem::transmute::<*mut c_void, unsafe extern "C" fn(*mut c_void, usize)>(
                symbol(c"emulated_free"),
            ),
            one_at_a_time: Mutex::new(()),
        })
    }
}
