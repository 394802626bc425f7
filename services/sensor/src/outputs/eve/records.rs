//! SIP, PostgreSQL, SMB.

use crate::outputs::json::{Object, Value, json};
use hookprobe_traffic::app::records::{
    Body, Field, Fields, Tx, pgsql,
    sip::Message,
    smb::{Command, Status, Transfer},
};

use super::{
    sdp::sdp,
    text::{hex, text},
};

/// The name of the object, and the object.
#[must_use]
pub(super) fn object(tx: &Tx) -> (&'static str, Value) {
    match &tx.body {
        Body::Sip(message) => ("sip", sip(message)),
        Body::Pgsql(exchange) => ("pgsql", pgsql(exchange, tx.id)),
        Body::Smb(command) => ("smb", smb(command, tx.id)),
        Body::SmbFile(transfer) => ("smb", smb_file(transfer, tx.id)),
    }
}

fn sip(message: &Message) -> Value {
    let mut out = Object::new();
    let line = if message.method.is_empty() { "response_line" } else { "request_line" };
    for (name, value) in [
        ("method", &message.method),
        ("uri", &message.uri),
        ("version", &message.version),
        ("code", &message.code),
        ("reason", &message.reason),
        (line, &message.line),
    ] {
        if !value.is_empty() {
            out.insert(name.into(), json!(text(value)));
        }
    }
    if let Some(sdp) = sdp(&message.session) {
        out.insert("sdp".into(), sdp);
    }
    Value::Object(out)
}

fn pgsql(exchange: &pgsql::Exchange, id: u64) -> Value {
    let mut out = Object::new();
    out.insert("tx_id".into(), json!(id + 1));
    for (name, fields) in [("request", &exchange.request), ("response", &exchange.response)] {
        if !fields.is_empty() {
            out.insert(name.into(), object_of(fields));
        }
    }
    Value::Object(out)
}

fn smb(command: &Command, id: u64) -> Value {
    let mut out = Object::new();
    out.insert("id".into(), json!(id + 1));
    let dialect = command.dialect.as_deref().map_or_else(|| "unknown".into(), text);
    out.insert("dialect".into(), json!(dialect));
    out.insert("command".into(), json!(command_name(command.command)));
    if let Some(status) = command.status {
        let (name, code) = match status {
            Status::Nt(code) => (nt_status(code), format!("0x{code:x}")),
            Status::Dos(class, code) => (dos_status(class, code), format!("0x{code:04x}")),
        };
        out.insert("status".into(), json!(name));
        out.insert("status_code".into(), json!(code));
    }
    out.insert("session_id".into(), json!(command.session_id));
    out.insert("tree_id".into(), json!(command.tree_id));
    if !command.dialects.is_empty() {
        let names: Vec<String> = command.dialects.iter().map(|name| text(name)).collect();
        out.insert("client_dialects".into(), json!(names));
    }
    for (name, fields) in [("request", &command.request), ("response", &command.response)] {
        if !fields.is_empty() {
            out.insert(name.into(), object_of(fields));
        }
    }
    out.extend(command.more.iter().map(|(name, field)| (name.clone(), value(field))));
    Value::Object(out)
}

fn smb_file(transfer: &Transfer, id: u64) -> Value {
    let mut out = Object::new();
    out.insert("id".into(), json!(id + 1));
    let command = match (transfer.version, transfer.command) {
        (1, number) => command_name(u8::try_from(number).unwrap_or(u8::MAX)),
        (_, 8) => "SMB2_COMMAND_READ".to_owned(),
        _ => "SMB2_COMMAND_WRITE".to_owned(),
    };
    let dialect = transfer.dialect.as_deref().map_or_else(|| "unknown".into(), text);
    out.insert("dialect".into(), json!(dialect));
    out.insert("command".into(), json!(command));
    // A file is of no one message, and Suricata says so.
    out.insert("session_id".into(), json!(0));
    out.insert("tree_id".into(), json!(0));
    let share = match transfer.share.as_slice() {
        [b'\\', share @ ..] if transfer.version == 1 => share,
        share => share,
    };
    for (name, value) in [("filename", transfer.file.name.as_slice()), ("share", share)] {
        if !value.is_empty() {
            out.insert(name.into(), json!(text(value)));
        }
    }
    out.insert("fuid".into(), json!(fuid(&transfer.handle)));
    Value::Object(out)
}

/// The number of an open file as a GUID is written: the first three parts are little endian.
fn fuid(handle: &[u8]) -> String {
    let Some(bytes) = handle.first_chunk::<16>().filter(|_| handle.len() == 16) else {
        let number: Vec<u8> = handle.iter().rev().copied().collect();
        return hex(&number, "");
    };
    let [a, b, c, d, e, f, g, h, rest @ ..] = bytes;
    let (middle, end) = rest.split_at(2);
    let parts =
        [&[*d, *c, *b, *a][..], &[*f, *e], &[*h, *g], middle, end].map(|part| hex(part, ""));
    parts.join("-")
}

fn object_of(fields: &Fields) -> Value {
    let entries = fields.iter().map(|(name, field)| (name.clone(), value(field)));
    Value::Object(entries.collect())
}

fn value(field: &Field) -> Value {
    match field {
        Field::Text(bytes) => json!(text(bytes)),
        Field::Number(number) => json!(number),
        Field::Flag(flag) => json!(flag),
        Field::Fields(fields) => object_of(fields),
        Field::List(list) => list.iter().map(value).collect(),
    }
}

/// Commands of SMB 1 by number (MS-CIFS, section 2.2.2.1).
const COMMANDS: [(u8, &str); 41] = [
    (0x00, "CREATE_DIRECTORY"),
    (0x01, "DELETE_DIRECTORY"),
    (0x02, "OPEN"),
    (0x03, "CREATE"),
    (0x04, "CLOSE"),
    (0x05, "FLUSH"),
    (0x06, "DELETE"),
    (0x07, "RENAME"),
    (0x08, "QUERY_INFORMATION"),
    (0x09, "SET_INFORMATION"),
    (0x0a, "READ"),
    (0x0b, "WRITE"),
    (0x0c, "LOCK_BYTE_RANGE"),
    (0x0d, "UNLOCK_BYTE_RANGE"),
    (0x0e, "CREATE_TEMPORARY"),
    (0x0f, "CREATE_NEW"),
    (0x10, "CHECK_DIRECTORY"),
    (0x11, "PROCESS_EXIT"),
    (0x12, "SEEK"),
    (0x13, "LOCK_AND_READ"),
    (0x14, "WRITE_AND_UNLOCK"),
    (0x24, "LOCKING_ANDX"),
    (0x25, "TRANS"),
    (0x2b, "ECHO"),
    (0x2c, "WRITE_AND_CLOSE"),
    (0x2d, "OPEN_ANDX"),
    (0x2e, "READ_ANDX"),
    (0x2f, "WRITE_ANDX"),
    (0x32, "TRANS2"),
    (0x33, "TRANS2_SECONDARY"),
    (0x34, "FIND_CLOSE2"),
    (0x71, "TREE_DISCONNECT"),
    (0x72, "NEGOTIATE_PROTOCOL"),
    (0x73, "SESSION_SETUP_ANDX"),
    (0x74, "LOGOFF_ANDX"),
    (0x75, "TREE_CONNECT_ANDX"),
    (0x80, "QUERY_INFO_DISK"),
    (0xa0, "NT_TRANS"),
    (0xa1, "NT_TRANS_SECONDARY"),
    (0xa2, "NT_CREATE_ANDX"),
    (0xa4, "NT_CANCEL"),
];

fn command_name(number: u8) -> String {
    let known = COMMANDS.iter().find(|(known, _)| *known == number);
    known.map_or_else(|| number.to_string(), |(_, name)| format!("SMB1_COMMAND_{name}"))
}

/// Statuses that file servers answer with (MS-ERREF, section 2.3.1).
const NT_STATUSES: [(u32, &str); 34] = [
    (0x0000_0000, "SUCCESS"),
    (0x0000_0103, "PENDING"),
    (0x0000_010b, "NOTIFY_CLEANUP"),
    (0x0000_010c, "NOTIFY_ENUM_DIR"),
    (0x8000_0005, "BUFFER_OVERFLOW"),
    (0x8000_0006, "NO_MORE_FILES"),
    (0xc000_0001, "UNSUCCESSFUL"),
    (0xc000_0002, "NOT_IMPLEMENTED"),
    (0xc000_0003, "INVALID_INFO_CLASS"),
    (0xc000_0008, "INVALID_HANDLE"),
    (0xc000_000d, "INVALID_PARAMETER"),
    (0xc000_000f, "NO_SUCH_FILE"),
    (0xc000_0010, "INVALID_DEVICE_REQUEST"),
    (0xc000_0011, "END_OF_FILE"),
    (0xc000_0016, "MORE_PROCESSING_REQUIRED"),
    (0xc000_0022, "ACCESS_DENIED"),
    (0xc000_0023, "BUFFER_TOO_SMALL"),
    (0xc000_0034, "OBJECT_NAME_NOT_FOUND"),
    (0xc000_0035, "OBJECT_NAME_COLLISION"),
    (0xc000_003a, "OBJECT_PATH_NOT_FOUND"),
    (0xc000_0043, "SHARING_VIOLATION"),
    (0xc000_006a, "WRONG_PASSWORD"),
    (0xc000_006d, "LOGON_FAILURE"),
    (0xc000_0071, "PASSWORD_EXPIRED"),
    (0xc000_0072, "ACCOUNT_DISABLED"),
    (0xc000_00ba, "FILE_IS_A_DIRECTORY"),
    (0xc000_00bb, "NOT_SUPPORTED"),
    (0xc000_00c9, "NETWORK_NAME_DELETED"),
    (0xc000_00cc, "BAD_NETWORK_NAME"),
    (0xc000_0103, "NOT_A_DIRECTORY"),
    (0xc000_0120, "CANCELLED"),
    (0xc000_0128, "FILE_CLOSED"),
    (0xc000_0203, "USER_SESSION_DELETED"),
    (0xc000_0225, "NOT_FOUND"),
];

fn nt_status(code: u32) -> String {
    let known = NT_STATUSES.iter().find(|(known, _)| *known == code);
    known.map_or_else(|| code.to_string(), |(_, name)| format!("STATUS_{name}"))
}

/// Errors of the time before NT: a class and a code.
fn dos_status(class: u8, code: u16) -> String {
    let name = match (class, code) {
        (1, 0) => "DOS_SUCCESS",
        (1, 1) => "DOS_BAD_FUNC",
        (1, 2) => "DOS_BAD_FILE",
        (1, 3) => "DOS_BAD_PATH",
        (1, 4) => "DOS_TOO_MANY_OPEN_FILES",
        (1, 5) => "DOS_ACCESS_DENIED",
        (2, 1) => "SRV_ERROR",
        (2, 2) => "SRV_BADPW",
        (2, 3) => "SRV_BADTYPE",
        (2, 4) => "SRV_ACCESS",
        (2, 91) => "SRV_BADUID",
        (1 | 2, _) => return code.to_string(),
        _ => return format!("UNKNOWN_{class:02x}_{code:04x}"),
    };
    name.to_owned()
}
