//! Turns `data/public-suffixes.txt` into the automaton that `suffix` reads.
//!
//! The rules, written from their last character to their first, are the words of a minimal acyclic
//! automaton: equal tails of the tree (most of it: the same few second levels under many countries)
//! are stored once. Its bytes, which are read from high addresses to low ones:
//!
//! ```text
//! node    := short | full
//! short   := 1ccc cccc                  one edge, character c, to the node in the byte before
//! full    := 0nnn nkkk [count] edge*    k: kind, n: edges, 15: their number is in `count`
//! edge    := character distance         edges by ascending character
//! distance:= 7 bits a byte, low first, 0x80: more follow; from this node's byte to the target's
//! kind    := 1 rule | 2 any one label below | 4 exception; added up
//! file    := node* root-address (u32, little endian)
//! ```

use std::{
    collections::{BTreeMap, HashMap},
    env,
    error::Error,
    fs,
    path::Path,
};

/// The name itself is a rule.
const RULE: u8 = 1;
/// `*.name` is a rule.
const WILDCARD: u8 = 2;
/// `!name` is a rule.
const EXCEPTION: u8 = 4;
/// Edges that no longer fit into the first byte.
const EDGES_ESCAPE: usize = 15;

#[derive(Default)]
struct Node {
    kind: u8,
    edges: BTreeMap<u8, Node>,
}

#[derive(Default)]
struct Writer {
    bytes: Vec<u8>,
    /// Addresses of nodes by their meaning: the kind and where the edges go.
    known: HashMap<(u8, Vec<(u8, usize)>), usize>,
}

fn main() -> Result<(), Box<dyn Error>> {
    const SOURCE: &str = "data/public-suffixes.txt";
    println!("cargo::rerun-if-changed={SOURCE}");
    println!("cargo::rerun-if-changed=build.rs");
    let text = fs::read_to_string(SOURCE).map_err(|error| format!("{SOURCE}: {error}"))?;
    let mut root = Node::default();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (name, kind) = match (line.strip_prefix("*."), line.strip_prefix('!')) {
            (Some(name), _) => (name, WILDCARD),
            (None, Some(name)) => (name, EXCEPTION),
            (None, None) => (line, RULE),
        };
        if !name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'*') {
            return Err(format!("{SOURCE}: {line}: not in ASCII form").into());
        }
        let end =
            name.bytes().rev().fold(&mut root, |node, byte| node.edges.entry(byte).or_default());
        end.kind |= kind;
    }
    let mut writer = Writer::default();
    let root = writer.node(&root)?;
    writer.bytes.extend(u32::try_from(root)?.to_le_bytes());
    let folder = env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?;
    fs::write(Path::new(&folder).join("suffixes.bin"), &writer.bytes)?;
    Ok(())
}

impl Writer {
    /// Writes what the node leads to and then itself; its address.
    fn node(&mut self, node: &Node) -> Result<usize, Box<dyn Error>> {
        let mut edges = Vec::with_capacity(node.edges.len());
        for (byte, to) in &node.edges {
            edges.push((*byte, self.node(to)?));
        }
        if let Some(address) = self.known.get(&(node.kind, edges.clone())) {
            return Ok(*address);
        }
        let address = self.encode(node.kind, &edges)?;
        self.known.insert((node.kind, edges), address);
        Ok(address)
    }

    fn encode(&mut self, kind: u8, edges: &[(u8, usize)]) -> Result<usize, Box<dyn Error>> {
        if let (0, [(byte, target)]) = (kind, edges)
            && target + 1 == self.bytes.len()
        {
            self.bytes.push(0x80 | byte);
            return Ok(self.bytes.len() - 1);
        }
        // Distances start at this node's first byte, which is written last: two passes until the
        // lengths of the distances no longer change.
        let mut length = 0;
        let body = loop {
            let address = self.bytes.len() + length;
            let body = body(kind, edges, address)?;
            if body.len() == length + 1 {
                break body;
            }
            length = body.len() - 1;
        };
        self.bytes.extend(body.iter().rev());
        Ok(self.bytes.len() - 1)
    }
}

/// A full node as it is read.
fn body(kind: u8, edges: &[(u8, usize)], address: usize) -> Result<Vec<u8>, Box<dyn Error>> {
    let count = edges.len().min(EDGES_ESCAPE);
    let mut out = vec![kind | u8::try_from(count << 3)?];
    if count == EDGES_ESCAPE {
        out.push(u8::try_from(edges.len())?);
    }
    for (byte, target) in edges {
        out.push(*byte);
        let mut distance = address - target;
        while distance >= 0x80 {
            out.push(0x80 | u8::try_from(distance & 0x7f)?);
            distance >>= 7;
        }
        out.push(u8::try_from(distance)?);
    }
    Ok(out)
}
