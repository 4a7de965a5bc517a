//! Compiles the kernels for NVIDIA's cards, where the engine is built for them. That takes nvcc, see `cargo xtask cuda`.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=cuda");
    #[cfg(feature = "cuda")]
    kernels();
}

/// Writes each file's PTX, and a file of constants that include them.
#[cfg(feature = "cuda")]
fn kernels() {
    let out = std::path::PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let built = cudaforge::KernelBuilder::new().source_dir("cuda").arg("-std=c++17").arg("-O3").build_ptx();
    built
        .and_then(|kernels| kernels.write(out.join("kernels.rs")))
        .expect("the kernels for CUDA could not be compiled");
}
