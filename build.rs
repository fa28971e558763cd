//! Generates the ONNX messages from `src/onnx/onnx.proto` (pure Rust, no `protoc`) and records how the binary was built,
//! because the engines' speed depends on it.

fn main() {
    protobuf_codegen::Codegen::new()
        .pure()
        .include("src/onnx")
        .input("src/onnx/onnx.proto")
        // Fields of type `bytes` share the memory of the (mapped) file instead of copying it.
        .customize(protobuf_codegen::Customize::default().tokio_bytes(true))
        .cargo_out_dir("onnx_pb")
        .run_from_script();
    println!("cargo:rerun-if-changed=src/onnx/onnx.proto");
    println!("cargo:rerun-if-changed=build.rs");

    let var = |name: &str| std::env::var(name).unwrap_or_default();
    println!("cargo:rustc-env=JOULEFRONT_BUILD_RUSTFLAGS={}", var("CARGO_ENCODED_RUSTFLAGS").replace('\u{1f}', " "));
    println!("cargo:rustc-env=JOULEFRONT_BUILD_TARGET={}", var("TARGET"));
    println!("cargo:rustc-env=JOULEFRONT_BUILD_PROFILE={}", var("PROFILE"));
    println!("cargo:rustc-env=JOULEFRONT_BUILD_OPT_LEVEL={}", var("OPT_LEVEL"));
    println!("cargo:rustc-env=JOULEFRONT_BUILD_FEATURES={}", var("CARGO_CFG_TARGET_FEATURE"));
}
