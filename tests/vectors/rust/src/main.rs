//! Answers questions about state trees with the public crates `jmt` and `ics23`, one line of hex each.
//!
//! `tree`                            start a new tree                               -> `ok`
//! `put KEY=VALUE KEY= ...`          the next height; an empty value deletes        -> root
//! `prove HEIGHT KEY`                the crate's own proof at a height, from 0      -> value or `-`, proof
//! `exist ROOT KEY VALUE PROOF`      does ics23 accept the proof of existence       -> `yes`, `no`
//! `absent ROOT KEY PROOF`           does ics23 accept the proof of absence         -> `yes`, `no`
//!
//! A proof that is no protobuf message, or on which the crate panics, is answered with `no`.

use std::io::{self, BufRead, Write};
use std::panic::{catch_unwind, AssertUnwindSafe};

use anyhow::{bail, Context, Result};
use ics23::{CommitmentProof, HostFunctionsManager, ProofSpec};
use jmt::{mock::MockTreeStore, ics23_spec, KeyHash, Sha256Jmt, Version};
use prost::Message;
use sha2::Sha256;

fn main() -> Result<()> {
    std::panic::set_hook(Box::new(|_| {}));
    let mut tree = Tree::new();
    let mut output = io::BufWriter::new(io::stdout().lock());
    for line in io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let answer = match words[..] {
            ["tree"] => {
                tree = Tree::new();
                "ok".to_string()
            }
            ["put", ref changes @ ..] => tree.put(changes)?,
            ["prove", height, key] => tree.prove(height.parse()?, hex::decode(key)?)?,
            ["exist", root, key, value, proof] => verdict(root, key, Some(value), proof)?,
            ["absent", root, key, proof] => verdict(root, key, None, proof)?,
            _ => bail!("unknown question: {line}"),
        };
        writeln!(output, "{answer}")?;
    }
    Ok(())
}

struct Tree {
    store: MockTreeStore,
    next: Version,
}

impl Tree {
    fn new() -> Self {
        Tree { store: MockTreeStore::default(), next: 0 }
    }

    fn put(&mut self, changes: &[&str]) -> Result<String> {
        let mut values = Vec::new();
        for change in changes {
            let (key, value) = change.split_once('=').context("a change is KEY=VALUE")?;
            let (key, value) = (hex::decode(key)?, hex::decode(value)?);
            let key_hash = KeyHash::with::<Sha256>(&key);
            self.store.put_key_preimage(key_hash, &key);
            values.push((key_hash, if value.is_empty() { None } else { Some(value) }));
        }
        let (root, batch) = Sha256Jmt::new(&self.store).put_value_set(values, self.next)?;
        self.store.write_tree_update_batch(batch)?;
        self.next += 1;
        Ok(hex::encode(root.0))
    }

    fn prove(&self, height: Version, key: Vec<u8>) -> Result<String> {
        let (value, proof) = Sha256Jmt::new(&self.store).get_with_ics23_proof(key, height)?;
        let value = value.map_or("-".to_string(), hex::encode);
        Ok(format!("{value} {}", hex::encode(proof.encode_to_vec())))
    }
}

/// The crate's specification with the depth that 256-bit keys need.
fn spec() -> ProofSpec {
    ProofSpec { max_depth: 256, ..ics23_spec() }
}

fn verdict(root: &str, key: &str, value: Option<&str>, proof: &str) -> Result<String> {
    let (root, key) = (hex::decode(root)?, hex::decode(key)?);
    let value = value.map(hex::decode).transpose()?;
    let Ok(proof) = CommitmentProof::decode(hex::decode(proof)?.as_slice()) else {
        return Ok("no".to_string());
    };
    let accepted = catch_unwind(AssertUnwindSafe(|| match &value {
        Some(value) => ics23::verify_membership::<HostFunctionsManager>(&proof, &spec(), &root, &key, value),
        None => ics23::verify_non_membership::<HostFunctionsManager>(&proof, &spec(), &root, &key),
    }));
    Ok(if accepted.unwrap_or(false) { "yes" } else { "no" }.to_string())
}
