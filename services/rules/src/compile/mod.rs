//! From text to [`Rule`]: each option goes to the module that knows it.
//!
//! `content` (contents, their modifiers, expressions, sticky buffers), `bytes` (numbers in buffers),
//! `packet` (headers, flows, transactions), `app` (certificates, states, hooks), `meta` (identity, limits, bits). `finish` decides what
//! Suricata decides when it has the whole rule: kind, directions, order of engines.

mod agree;
mod app;
mod bytes;
mod content;
mod finish;
mod groups;
mod header;
mod meta;
mod packet;
mod strict;

pub(crate) use groups::Groups;
pub(crate) use meta::{limit, track};

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    address::GroupError,
    buffer::{Buffer, Spec},
    chain::Op,
    config::Config,
    rule::{Action, Bits, Header, Match, Post, Rule, Scope, Target, Test, TxTest},
    sets::Sets,
    syntax::{self, Arrow, SyntaxError},
    threshold::Limit,
    transform::Transform,
};

/// Why a rule is not loaded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// It can't be taken apart.
    #[error(transparent)]
    Syntax(#[from] SyntaxError),
    /// Unknown action.
    #[error("action {0:?} is not supported")]
    Action(String),
    /// Unknown protocol.
    #[error("protocol {0:?} is not supported")]
    Protocol(String),
    /// Addresses or ports.
    #[error(transparent)]
    Group(#[from] GroupError),
    /// Unknown keyword.
    #[error("keyword {0:?} is not supported")]
    Keyword(String),
    /// A keyword's value.
    #[error("{keyword}: {why}")]
    Value {
        /// Which.
        keyword: String,
        /// What is wrong with it.
        why: String,
    },
    /// Keywords that do not go together.
    #[error("{0}")]
    Conflict(&'static str),
    /// No number.
    #[error("rule has no sid")]
    Sid,
    /// `requires` names what is not here: the rule is skipped, which is no fault.
    #[error("requires {0}")]
    Requires(String),
}

/// Names that rules share.
#[derive(Debug, Default)]
pub(crate) struct Names {
    bits: BTreeMap<String, u32>,
}

impl Names {
    pub(crate) fn number(&mut self, kind: &str, name: &str) -> u32 {
        let next = u32::try_from(self.bits.len()).unwrap_or(u32::MAX);
        *self.bits.entry(format!("{kind}:{name}")).or_insert(next)
    }

    /// The name of a number.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, u32)> {
        self.bits.iter().map(|(name, number)| (name.as_str(), *number))
    }
}

/// What compilation needs beside the rule.
#[derive(Debug)]
pub(crate) struct Context<'c> {
    pub(crate) config: &'c Config,
    pub(crate) names: &'c mut Names,
    pub(crate) sets: &'c mut Sets,
    pub(crate) groups: &'c mut Groups,
}

/// Where matches go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum List {
    Payload,
    Buffer(usize),
    Packet(usize),
    Base64,
}

/// A sticky buffer that has no matches yet.
#[derive(Debug)]
struct Pending {
    spec: &'static Spec,
    transforms: Vec<Transform>,
    key: String,
    only: Option<hookprobe_traffic::Direction>,
}

struct Builder<'b, 'c> {
    context: &'b mut Context<'c>,
    action: Action,
    scope: Scope,
    is_silent: bool,
    header: Header,
    app: Option<crate::rule::AppName>,
    tests: Vec<Test>,
    payload: Vec<Op>,
    packet_buffers: Vec<Match>,
    buffers: Vec<Match>,
    tx_tests: Vec<(TxTest, &'static [crate::buffer::Place])>,
    base64: Vec<Op>,
    post: Vec<Post>,
    limit: Option<Limit>,
    filter: Option<Limit>,
    list: List,
    pending: Option<Pending>,
    /// Where the last content went when a modifier turned it.
    turned: Option<usize>,
    variables: Vec<String>,
    needs_packet: bool,
    needs_stream: bool,
    is_transactional: bool,
    /// Decided by a hook.
    kind: Option<crate::rule::Kind>,
    early: Option<crate::rule::Hook>,
    gid: u32,
    sid: u32,
    rev: u32,
    message: String,
    priority: Option<u8>,
    class_priority: Option<u8>,
    category: Arc<str>,
    metadata: Vec<(String, String)>,
    references: Vec<String>,
    target: Option<Target>,
}

type Done = Result<(), RuleError>;

fn fault(keyword: &str, why: impl Into<String>) -> RuleError {
    RuleError::Value { keyword: keyword.to_owned(), why: why.into() }
}

/// Compiles one rule.
pub(crate) fn compile(
    text: &str,
    line: usize,
    context: &mut Context<'_>,
) -> Result<Rule, RuleError> {
    let mut raw = syntax::parse(text)?;
    let hook = match raw.protocol.split_once(':') {
        Some((protocol, hook)) => {
            let parts = (protocol.to_owned(), hook.to_owned());
            raw.protocol.clone_from(&parts.0);
            Some(parts)
        }
        None => None,
    };
    raw.protocol.make_ascii_lowercase();
    strict::check(&raw)?;
    let (action, scope) = header::action(&raw.action)?;
    let (header, app) = header::header(&raw, &context.config.variables, context.groups)?;
    let (needs_packet, needs_stream) = match raw.protocol.as_str() {
        "tcp-pkt" => (true, false),
        "tcp-stream" => (false, true),
        _ => (false, false),
    };
    let mut builder = Builder {
        context,
        action,
        scope,
        is_silent: false,
        header,
        app,
        tests: Vec::new(),
        payload: Vec::new(),
        packet_buffers: Vec::new(),
        buffers: Vec::new(),
        tx_tests: Vec::new(),
        base64: Vec::new(),
        post: Vec::new(),
        limit: None,
        filter: None,
        list: List::Payload,
        pending: None,
        turned: None,
        variables: Vec::new(),
        needs_packet,
        needs_stream,
        is_transactional: raw.arrow == Arrow::Transaction,
        kind: None,
        early: None,
        gid: 1,
        sid: 0,
        rev: 0,
        message: String::new(),
        priority: None,
        class_priority: None,
        category: Arc::default(),
        metadata: Vec::new(),
        references: Vec::new(),
        target: None,
    };
    if let Some((protocol, hook)) = &hook {
        builder.hook(protocol, hook)?;
    }
    for item in &raw.options {
        builder.option(&item.name, item.value.as_deref())?;
    }
    let is_text_kept = builder.context.config.is_text_kept;
    builder.agree(raw.protocol == "tcp-stream")?;
    let mut rule = builder.finish(line)?;
    rule.text = is_text_kept.then(|| text.into());
    rule.shrink();
    Ok(rule)
}

impl Builder<'_, '_> {
    fn option(&mut self, name: &str, value: Option<&str>) -> Done {
        if self.content_option(name, value)?
            || self.bytes_option(name, value)?
            || self.packet_option(name, value)?
            || self.meta_option(name, value)?
        {
            Ok(())
        } else {
            Err(RuleError::Keyword(name.to_owned()))
        }
    }

    fn ops(&mut self, list: List) -> &mut Vec<Op> {
        match list {
            List::Payload => &mut self.payload,
            List::Base64 => &mut self.base64,
            List::Buffer(index) => match self.buffers.get_mut(index) {
                Some(found) => &mut found.ops,
                None => &mut self.payload,
            },
            List::Packet(index) => match self.packet_buffers.get_mut(index) {
                Some(found) => &mut found.ops,
                None => &mut self.payload,
            },
        }
    }

    /// The list that the next match goes to; a sticky buffer that waits is opened.
    fn open(&mut self) -> List {
        if let Some(pending) = self.pending.take() {
            self.list = self.buffer_list(pending);
        }
        self.list
    }

    fn buffer_list(&mut self, pending: Pending) -> List {
        let Pending { spec, transforms, key, only } = pending;
        let is_packet = spec.places.is_empty();
        let lists = if is_packet { &mut self.packet_buffers } else { &mut self.buffers };
        let known = lists.iter().position(|known| {
            known.buffer == spec.buffer && known.key == key && !spec.is_multi && known.only == only
        });
        let index = known.unwrap_or_else(|| {
            lists.push(Match {
                buffer: spec.buffer,
                transforms,
                key,
                ops: Vec::new(),
                is_multi: spec.is_multi,
                is_absent: false,
                only,
            });
            lists.len() - 1
        });
        if is_packet { List::Packet(index) } else { List::Buffer(index) }
    }

    fn push(&mut self, op: Op) {
        let list = self.open();
        self.ops(list).push(op);
    }

    /// What is relative follows the last content, wherever a modifier has moved that.
    fn push_number(&mut self, is_relative: bool, op: Op) {
        let list = self.relative_list(is_relative);
        self.ops(list).push(op);
    }

    fn relative_list(&mut self, is_relative: bool) -> List {
        match self.turned {
            Some(index) if is_relative && self.pending.is_none() && self.list == List::Payload => {
                List::Buffer(index)
            }
            Some(_) | None => self.open(),
        }
    }

    /// A match that depends on the place of the one before: that one has to know.
    fn mark_relative(&mut self) {
        let list = self.relative_list(true);
        for op in self.ops(list).iter_mut().rev() {
            match op {
                Op::Content(content) => {
                    content.is_next_relative = true;
                    return;
                }
                Op::Pcre(pcre) => {
                    pcre.is_next_relative = true;
                    return;
                }
                _ => {}
            }
        }
    }

    fn buffer(&mut self, buffer: Buffer, op: Op) -> Done {
        let spec = crate::buffer::spec(buffer).ok_or(RuleError::Conflict("unknown buffer"))?;
        let pending = Pending { spec, transforms: Vec::new(), key: String::new(), only: None };
        let list = self.buffer_list(pending);
        self.ops(list).push(op);
        Ok(())
    }

    fn bits(
        &mut self,
        owner: crate::rule::Owner,
        kind: &str,
        names: &[&str],
        expire_s: u64,
    ) -> Bits {
        let bits = names.iter().map(|name| self.context.names.number(kind, name.trim())).collect();
        Bits { owner, bits, expire_s, is_written_last: false }
    }
}
