//! A verified list in memory: bounded, read only, found in without allocation.
//!
//! Names are told apart by 74 bits of a keyed hash (with 2.2 million names; 18 choose the bucket,
//! 56 are compared), not by their text. No listed name is ever missed. That a name which is on no
//! list is taken for a listed one has a probability of (names in its bucket) / 2^56, about 1.2e-16
//! for each suffix that is tried: were every one of the billion names of the Internet looked up,
//! one would be wrong with a probability of one in two million. The key is drawn for each list, so
//! nobody can choose a name that collides before it is published, and the next list ends what
//! somebody finds afterwards with 2^53 tries for a name of his own. That is acceptable: the names'
//! texts would take 60 MB.

use ring::digest;

use crate::{
    format::{Category, Expectation, HEADER_BYTES, Header, ListInfo, LoadError, Serial},
    hash::NameHash,
    name::{self, LABELS_MAX},
    suffix,
};

/// Takes a list in pieces, so that its bytes need not be in memory beside the result.
pub struct Loader {
    header: Header,
    digest: digest::Context,
    table: Vec<u8>,
    lists: Vec<ListInfo>,
    starts: Vec<u32>,
    entries: Vec<u64>,
    /// The first bytes of an entry whose others come with the next piece.
    partial: [u8; 8],
    partial_bytes: usize,
}

impl std::fmt::Debug for Loader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loader").field("header", &self.header).finish_non_exhaustive()
    }
}

impl Loader {
    /// Verifies the header.
    ///
    /// # Errors
    /// Any [`LoadError`] but `Content` and `PublicSuffix`.
    pub fn new(header: &[u8; HEADER_BYTES], expect: &Expectation<'_>) -> Result<Self, LoadError> {
        let header = Header::verify(header, expect)?;
        Ok(Self {
            header,
            digest: digest::Context::new(&digest::SHA256),
            table: Vec::new(),
            lists: Vec::new(),
            starts: Vec::with_capacity(header.buckets() + 1),
            entries: Vec::with_capacity(usize::try_from(header.entries).unwrap_or(0)),
            partial: [0; 8],
            partial_bytes: 0,
        })
    }

    /// The next bytes after the header.
    ///
    /// # Errors
    /// [`LoadError::Content`].
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), LoadError> {
        self.digest.update(bytes);
        let table_bytes = usize::try_from(self.header.table_bytes).unwrap_or(0);
        let missing = table_bytes - self.table.len();
        let (table, rest) = bytes.split_at(missing.min(bytes.len()));
        self.table.extend_from_slice(table);
        if self.table.len() < table_bytes {
            return Ok(());
        }
        let missing = self.header.buckets().saturating_sub(self.starts.len());
        let (counts, mut rest) = rest.split_at(missing.min(rest.len()));
        for count in counts {
            // For now the counts; `finish` adds them up.
            self.starts.push(u32::from(*count));
        }
        while self.partial_bytes > 0 || rest.len() < 8 {
            let Some((byte, others)) = rest.split_first() else { return Ok(()) };
            rest = others;
            if let Some(to) = self.partial.get_mut(self.partial_bytes) {
                *to = *byte;
            }
            self.partial_bytes += 1;
            if self.partial_bytes == 8 {
                self.partial_bytes = 0;
                self.push(self.partial)?;
            }
        }
        let (whole, rest) = rest.as_chunks::<8>();
        for entry in whole {
            self.push(*entry)?;
        }
        for (to, from) in self.partial.iter_mut().zip(rest) {
            *to = *from;
        }
        self.partial_bytes = rest.len();
        Ok(())
    }

    fn push(&mut self, bytes: [u8; 8]) -> Result<(), LoadError> {
        if self.entries.len() == self.entries.capacity() {
            return Err(LoadError::Content("longer than the header says"));
        }
        self.entries.push(u64::from_le_bytes(bytes));
        Ok(())
    }

    /// The list, if everything was there and is what was signed.
    ///
    /// # Errors
    /// [`LoadError::Content`], [`LoadError::PublicSuffix`].
    pub fn finish(mut self) -> Result<NameList, LoadError> {
        let header = self.header;
        let is_whole = self.starts.len() == header.buckets()
            && self.partial_bytes == 0
            && u32::try_from(self.entries.len()) == Ok(header.entries);
        if !is_whole {
            return Err(LoadError::Content("shorter than the header says"));
        }
        if self.digest.clone().finish().as_ref() != header.content.0.as_slice() {
            return Err(LoadError::Content("the hash differs"));
        }
        self.read_table()?;
        let mut total: u32 = 0;
        for start in &mut self.starts {
            // At most 2^24 buckets of 255.
            total += std::mem::replace(start, total);
        }
        self.starts.push(total);
        if total != header.entries {
            return Err(LoadError::Content("the counts don't add up"));
        }
        let list = NameList {
            header,
            lists: self.lists,
            starts: self.starts.into_boxed_slice(),
            entries: self.entries.into_boxed_slice(),
        };
        list.check()?;
        Ok(list)
    }

    fn read_table(&mut self) -> Result<(), LoadError> {
        const WRONG: LoadError = LoadError::Content("the table of lists is malformed");
        let mut rest = self.table.as_slice();
        for _ in 0..self.header.lists {
            let [category, length, others @ ..] = rest else { return Err(WRONG) };
            let (name, others) = others.split_at_checked(usize::from(*length)).ok_or(WRONG)?;
            rest = others;
            let category = Category::from_number(*category).ok_or(WRONG)?;
            let name = str::from_utf8(name).map_err(|_| WRONG)?;
            if !name.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
                return Err(WRONG);
            }
            self.lists.push(ListInfo { category, name: name.into() });
        }
        if rest.is_empty() { Ok(()) } else { Err(WRONG) }
    }
}

/// What a lookup says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// Not on the list.
    Unlisted,
    /// Excepted, so never refused.
    Allowed,
    /// On this list, itself or through a name above it.
    Listed {
        /// Which.
        list: &'a ListInfo,
        /// How many labels of the name's end are what is listed.
        labels: u8,
    },
}

/// A name's hash, and where it would be.
#[derive(Debug, Clone, Copy, Default)]
struct Probe {
    bucket: usize,
    fingerprint: u64,
    range: (u32, u32),
}

/// A verified list.
#[derive(Debug)]
pub struct NameList {
    header: Header,
    lists: Vec<ListInfo>,
    /// First entry of each bucket, and the end of the last.
    starts: Box<[u32]>,
    entries: Box<[u64]>,
}

impl NameList {
    /// All of a list that is in memory.
    ///
    /// # Errors
    /// Any [`LoadError`].
    pub fn load(bytes: &[u8], expect: &Expectation<'_>) -> Result<Self, LoadError> {
        let (header, content) =
            bytes.split_first_chunk().ok_or(LoadError::Format("shorter than a header"))?;
        let mut loader = Loader::new(header, expect)?;
        loader.feed(content)?;
        loader.finish()
    }

    /// Looks a name up, as it came from the wire: any case, any bytes. Allocates nothing.
    #[must_use]
    pub fn lookup(&self, name: &[u8]) -> Verdict<'_> {
        match name::lower(name) {
            Some(name) => self.lookup_lower(name.as_bytes()),
            None => Verdict::Unlisted,
        }
    }

    /// Looks up a name in lower case without a final dot.
    ///
    /// In three steps over all of the name's tails, because most of the time goes into waiting for
    /// memory: what is asked for in one step arrives together.
    #[must_use]
    pub fn lookup_lower(&self, name: &[u8]) -> Verdict<'_> {
        let mut probes = [Probe::default(); LABELS_MAX];
        let mut count = 0;
        for (probe, tail) in probes.iter_mut().zip(name::tails(name)) {
            *probe = self.probe(tail);
            count += 1;
        }
        let probes = probes.get_mut(..count).unwrap_or_default();
        for probe in &mut *probes {
            probe.range = self.range(probe.bucket);
        }
        let mut verdict = Verdict::Unlisted;
        let numbers: [Option<u8>; LABELS_MAX] =
            std::array::from_fn(|at| probes.get(at).and_then(|probe| self.find_in(*probe)));
        // From the registered domain down: the name nearest to it that is listed is told.
        for (number, labels) in numbers.into_iter().take(count).zip(2_u8..) {
            match number {
                Some(0) => return Verdict::Allowed,
                Some(number) if verdict == Verdict::Unlisted => {
                    if let Some(list) = self.lists.get(usize::from(number) - 1) {
                        verdict = Verdict::Listed { list, labels };
                    }
                }
                _ => {}
            }
        }
        verdict
    }

    fn probe(&self, name: &[u8]) -> Probe {
        let bits = self.header.bucket_bits;
        let hash = NameHash::of(&self.header.hash_key, name);
        let (bucket, fingerprint) = (hash.bucket(bits), hash.fingerprint(bits));
        Probe { bucket, fingerprint, range: (0, 0) }
    }

    /// Where a bucket's entries are.
    fn range(&self, bucket: usize) -> (u32, u32) {
        match self.starts.get(bucket..).and_then(<[u32]>::first_chunk) {
            Some([start, end]) => (*start, *end),
            None => (0, 0),
        }
    }

    /// The number of the list that has the probe's fingerprint.
    fn find_in(&self, probe: Probe) -> Option<u8> {
        let (start, end) = probe.range;
        let range = usize::try_from(start).ok()?..usize::try_from(end).ok()?;
        // No early end: nothing to predict wrongly, and most buckets have no hit.
        let mut found = None;
        for entry in self.entries.get(range)? {
            if *entry >> 8 == probe.fingerprint {
                found = Some(*entry);
            }
        }
        u8::try_from(found? & 0xff).ok()
    }

    /// The number of the list that has exactly this name.
    fn find(&self, name: &[u8]) -> Option<u8> {
        let probe = self.probe(name);
        self.find_in(Probe { range: self.range(probe.bucket), ..probe })
    }

    /// What the signature can't say: order, numbers of lists, public suffixes.
    fn check(&self) -> Result<(), LoadError> {
        let bounds = self.starts.windows(2).filter_map(|pair| match pair {
            [start, end] => Some((usize::try_from(*start).ok()?, usize::try_from(*end).ok()?)),
            _ => None,
        });
        for (start, end) in bounds {
            let bucket = self.entries.get(start..end).unwrap_or_default();
            if !bucket.is_sorted_by(|a, b| a >> 8 < b >> 8) {
                return Err(LoadError::Content("entries are out of order"));
            }
        }
        if self.entries.iter().any(|entry| entry & 0xff > u64::from(self.header.lists)) {
            return Err(LoadError::Content("an entry is of no list"));
        }
        let mut wrong = None;
        suffix::for_each_suffix(|name| {
            if wrong.is_none() && self.find(name).is_some_and(|number| number != 0) {
                wrong = Some(String::from_utf8_lossy(name).into_owned());
            }
        });
        wrong.map_or(Ok(()), |name| Err(LoadError::PublicSuffix(name)))
    }

    /// How many names.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Which edition this is; to be kept where a restart finds it.
    #[must_use]
    pub fn serial(&self) -> Serial {
        self.header.serial
    }

    /// When it ends, in seconds since 1970. In use it stays in use (an old list is better than
    /// none), and the console says so.
    #[must_use]
    pub fn expires_s(&self) -> u64 {
        self.header.expires_s
    }

    /// The lists that it is made of.
    #[must_use]
    pub fn lists(&self) -> &[ListInfo] {
        &self.lists
    }

    /// Memory that it takes.
    #[must_use]
    pub fn resident_bytes(&self) -> usize {
        let lists: usize =
            self.lists.iter().map(|list| size_of::<ListInfo>() + list.name.capacity()).sum();
        size_of_val(&*self.entries) + size_of_val(&*self.starts) + lists + size_of::<Self>()
    }
}
