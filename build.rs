//! Packs the relocations of the binary: without this the loader reads three quarters of a megabyte of them at each
//! start, which a client waits for and the process then keeps.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let target = |what: &str| std::env::var(format!("CARGO_CFG_TARGET_{what}")).unwrap_or_default();
    // DT_RELR is read by glibc from 2.36 on; a linker that does not know it says so and goes on without.
    if target("OS") == "linux" && target("ENV") == "gnu" {
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}
