//! `cargo xtask image`: a container image from scratch, written as an OCI archive without a container engine.
//!
//! One layer with the statically linked agent. `docker load`, `podman load` and `ctr images import` read it.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::linker::cargo;
use crate::progress::Step;
use crate::vm::shared_libraries;
use crate::workspace::Workspace;
use crate::{build, command, setup};

/// Where to write the image and what to call it.
#[derive(Clone, Debug, Args)]
pub(crate) struct Choice {
    /// File to write [default: target/image/kerntally.tar]
    #[arg(long)]
    output: Option<PathBuf>,
    /// Name and tag
    #[arg(long, default_value = concat!("kerntally:", env!("CARGO_PKG_VERSION")))]
    tag: String,
}

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Builds the static agent and writes the image.
pub(crate) fn run(workspace: &Workspace, choice: &Choice) -> Result<()> {
    let tools = setup::ensure(workspace)?;
    build::objects(workspace, &tools)?;
    let agent = static_agent(workspace)?;
    let output = choice
        .output
        .clone()
        .unwrap_or_else(|| workspace.target("image/kerntally.tar"));
    let step = Step::begin("the image");
    let agent = std::fs::read(&agent).with_context(|| format!("reading {}", agent.display()))?;
    let image = image(&agent, &choice.tag)?;
    if let Some(directory) = output.parent() {
        std::fs::create_dir_all(directory)?;
    }
    std::fs::write(&output, image).with_context(|| format!("writing {}", output.display()))?;
    let size = std::fs::metadata(&output)?.len() / 1024 / 1024;
    step.end(&format!(
        "{} ({size} MiB), {}",
        output.display(),
        choice.tag
    ));
    println!(
        "load it with: docker load -i {0}   or: podman load -i {0}",
        output.display()
    );
    Ok(())
}

/// The agent without shared libraries, stripped of what only a debugger reads.
fn static_agent(workspace: &Workspace) -> Result<PathBuf> {
    let step = Step::begin("the agent, statically linked");
    let host = host_triple()?;
    let directory = workspace.target("static");
    let mut build = Command::new(cargo());
    build
        .current_dir(workspace.root())
        .env("KERNTALLY_BPF_DIR", workspace.target("bpf"));
    build.env(
        "CARGO_ENCODED_RUSTFLAGS",
        "-Ctarget-feature=+crt-static\u{1f}-Cstrip=debuginfo",
    );
    // With the target named, build scripts and macros are not compiled with its flags.
    build
        .args([
            "build",
            "--release",
            "-p",
            "kerntally",
            "--target",
            &host,
            "--target-dir",
        ])
        .arg(&directory);
    command::run(&mut build)?;
    let agent = directory.join(host).join("release/kerntally");
    let libraries = shared_libraries(&agent)?;
    if !libraries.is_empty() {
        bail!("{} still needs {}", agent.display(), libraries[0].display());
    }
    step.end(&agent.display().to_string());
    Ok(agent)
}

fn host_triple() -> Result<String> {
    let text = command::capture(Command::new("rustc").arg("-vV"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("host: "));
    line.map(str::to_owned).context("rustc -vV names no host")
}

/// An OCI layout in one archive, with the index that `docker load` reads beside the standard one.
fn image(agent: &[u8], tag: &str) -> Result<Vec<u8>> {
    let layer = layer(agent)?;
    let compressed = gzip(&layer)?;
    let config = serde_json::to_vec(&config(&digest(&layer)))?;
    let manifest = serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(CONFIG, &config),
        "layers": [descriptor(LAYER, &compressed)],
    }))?;
    let mut entry = descriptor(MANIFEST, &manifest);
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": tag});
    let index = json!({"schemaVersion": 2, "manifests": [entry]});
    let for_docker = json!([{
        "Config": blob(&config),
        "RepoTags": [tag],
        "Layers": [blob(&compressed)],
    }]);
    let mut archive = tar::Builder::new(Vec::new());
    append(
        &mut archive,
        "oci-layout",
        br#"{"imageLayoutVersion":"1.0.0"}"#,
        0o644,
    )?;
    append(
        &mut archive,
        "index.json",
        &serde_json::to_vec(&index)?,
        0o644,
    )?;
    append(
        &mut archive,
        "manifest.json",
        &serde_json::to_vec(&for_docker)?,
        0o644,
    )?;
    for content in [&config, &compressed, &manifest] {
        append(&mut archive, &blob(content), content, 0o644)?;
    }
    Ok(archive.into_inner()?)
}

fn layer(agent: &[u8]) -> Result<Vec<u8>> {
    let mut layer = tar::Builder::new(Vec::new());
    append(&mut layer, "usr/local/bin/kerntally", agent, 0o755)?;
    append(
        &mut layer,
        "etc/passwd",
        b"root:x:0:0:root:/:/usr/local/bin/kerntally\n",
        0o644,
    )?;
    // Authorities for collectors reached over TLS, as the building machine trusts them.
    let authorities = Path::new("/etc/ssl/certs/ca-certificates.crt");
    if authorities.is_file() {
        append(
            &mut layer,
            "etc/ssl/certs/ca-certificates.crt",
            &std::fs::read(authorities)?,
            0o644,
        )?;
    }
    Ok(layer.into_inner()?)
}

/// The same content gives the same bytes: no times, no owners.
fn append(
    archive: &mut tar::Builder<Vec<u8>>,
    name: &str,
    content: &[u8],
    mode: u32,
) -> Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(mode);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    archive
        .append_data(&mut header, name, content)
        .with_context(|| format!("adding {name}"))
}

fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

fn config(layer: &str) -> Value {
    json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "Entrypoint": ["/usr/local/bin/kerntally"],
            "Cmd": ["run"],
            "Env": ["PATH=/usr/local/bin"],
            "Labels": {
                "org.opencontainers.image.title": "kerntally",
                "org.opencontainers.image.version": env!("CARGO_PKG_VERSION"),
                "org.opencontainers.image.licenses": "Apache-2.0",
            },
        },
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer}")]},
    })
}

fn descriptor(kind: &str, content: &[u8]) -> Value {
    json!({"mediaType": kind, "digest": format!("sha256:{}", digest(content)), "size": content.len()})
}

fn blob(content: &[u8]) -> String {
    format!("blobs/sha256/{}", digest(content))
}

fn digest(content: &[u8]) -> String {
    format!("{:x}", Sha256::digest(content))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read as _;

    use super::*;

    fn files(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut archive = tar::Archive::new(archive);
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().display().to_string();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            (name, content)
        });
        entries.collect()
    }

    #[test]
    fn every_descriptor_names_a_blob_that_is_there() {
        let files = files(&image(b"program", "kerntally:test").unwrap());
        let index: Value = serde_json::from_slice(&files["index.json"]).unwrap();
        let named = |value: &Value| {
            let digest = value["digest"]
                .as_str()
                .unwrap()
                .replace("sha256:", "blobs/sha256/");
            let content = files[&digest].clone();
            assert_eq!(value["size"], content.len());
            assert_eq!(blob(&content), digest);
            content
        };
        let manifest: Value = serde_json::from_slice(&named(&index["manifests"][0])).unwrap();
        let config: Value = serde_json::from_slice(&named(&manifest["config"])).unwrap();
        let mut layer = Vec::new();
        let compressed = named(&manifest["layers"][0]);
        flate2::read::GzDecoder::new(compressed.as_slice())
            .read_to_end(&mut layer)
            .unwrap();
        assert_eq!(
            config["rootfs"]["diff_ids"][0],
            format!("sha256:{}", digest(&layer))
        );
        assert_eq!(self::files(&layer)["usr/local/bin/kerntally"], b"program");
    }

    #[test]
    fn the_same_agent_gives_the_same_image() {
        assert_eq!(image(b"a", "t").unwrap(), image(b"a", "t").unwrap());
    }
}
