//! Where something stands: in which of the files, between which bytes, and what led there.

use super::arena::Arena;
use super::variables::Variables;

/// A file of the project, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct FileId(u16);

/// What led to a file: a step of [`Sources`], or nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Via(u32);

/// Bytes of one of the files, from `start` to before `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    start: u32,
    end: u32,
    pub(super) file: FileId,
}

impl Span {
    /// In no file at all: what a person typed is the place, or all files together.
    pub(super) const NOWHERE: Self = Self { start: 0, end: 0, file: FileId(u16::MAX) };

    pub(super) fn new(file: FileId, start: usize, end: usize) -> Self {
        // No text is longer than `TEXT_MAX`.
        let narrow = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Self { start: narrow(start), end: narrow(end), file }
    }

    pub(super) fn start(self) -> usize {
        self.start as usize
    }

    pub(super) fn end(self) -> usize {
        self.end as usize
    }

    pub(super) fn is_empty(self) -> bool {
        self.start >= self.end
    }

    /// The place where it starts, without any text.
    pub(super) fn front(self) -> Self {
        Self { end: self.start, ..self }
    }

    /// The same place in the same text, read another time.
    pub(super) fn again(self, file: FileId) -> Self {
        Self { file, ..self }
    }

    /// From the start of this to the end of a later one.
    pub(super) fn to(self, last: Self) -> Self {
        Self { end: self.end.max(last.end), ..self }
    }

    /// Some bytes of it.
    pub(super) fn part(self, range: std::ops::Range<usize>) -> Self {
        Self::new(self.file, self.start() + range.start, self.start() + range.end)
    }
}

/// A file as it was read.
pub(super) struct File<'a> {
    /// As the person named it.
    pub(super) name: String,
    pub(super) text: &'a str,
    /// Absolute: what relative paths in it start from.
    pub(super) dir: String,
    /// What `${…}` in it stands for.
    pub(super) variables: std::rc::Rc<Variables<'a>>,
    /// What led to it.
    pub(super) via: Via,
}

/// One step of what led to a place.
pub(super) struct Step {
    /// Where it was asked for.
    pub(super) span: Span,
    /// `included here`.
    pub(super) what: String,
}

/// All files of a project, how they came to be read, and where their trees live.
pub(super) struct Sources<'a> {
    pub(super) arena: Arena<'a>,
    files: Vec<File<'a>>,
    steps: Vec<Step>,
    /// How many bytes of text they have.
    bytes: usize,
    /// How many values they hold, as far as they were read.
    pub(super) values: usize,
    /// Why no more files are taken.
    refusal: Option<String>,
}

impl<'a> Sources<'a> {
    pub(super) fn new(arena: Arena<'a>) -> Self {
        Self { arena, files: Vec::new(), steps: Vec::new(), bytes: 0, values: 0, refusal: None }
    }

    /// Why no more files are taken, and none should be read any more.
    pub(super) fn refusal(&self) -> Option<&str> {
        self.refusal.as_deref()
    }

    /// Adds a file. `None`: there are too many, or too much is in them.
    pub(super) fn add(&mut self, file: File<'a>) -> Option<FileId> {
        self.bytes += file.text.len();
        if self.files.len() >= super::FILES_MAX {
            self.refusal = Some(format!("The project has more than {} files", super::FILES_MAX));
        } else if self.bytes > super::TEXTS_MAX {
            let most = super::TEXTS_MAX >> 20;
            self.refusal = Some(format!("The files of the project have more than {most} MB of text"));
        }
        if self.refusal.is_some() {
            return None;
        }
        let id = u16::try_from(self.files.len()).ok()?;
        self.files.push(file);
        Some(FileId(id))
    }

    /// The same file, as something else led there.
    pub(super) fn again(&mut self, id: FileId, via: Via) -> FileId {
        let number = u16::try_from(self.files.len()).ok().filter(|number| *number < u16::MAX);
        let (Some(number), Some(file)) = (number, self.file(id)) else { return id };
        let (name, dir, variables) = (file.name.clone(), file.dir.clone(), file.variables.clone());
        let again = File { name, text: file.text, dir, variables, via };
        self.files.push(again);
        FileId(number)
    }

    pub(super) fn file(&self, id: FileId) -> Option<&File<'a>> {
        self.files.get(usize::from(id.0))
    }

    /// What is read from now on was asked for here.
    pub(super) fn add_step(&mut self, span: Span, what: String) -> Via {
        self.steps.push(Step { span, what });
        Via(u32::try_from(self.steps.len()).unwrap_or(u32::MAX))
    }

    /// Where it was asked for; nowhere, where the person did.
    pub(super) fn asked_at(&self, via: Via) -> Span {
        self.step(via).map_or(Span::NOWHERE, |step| step.span)
    }

    /// What led to the file of a place, the nearest step first.
    pub(super) fn trace(&self, span: Span) -> impl Iterator<Item = &Step> {
        std::iter::successors(self.step_to(span), |last| self.step_to(last.span))
    }

    fn step_to(&self, span: Span) -> Option<&Step> {
        self.step(self.file(span.file)?.via)
    }

    fn step(&self, via: Via) -> Option<&Step> {
        self.steps.get((via.0 as usize).checked_sub(1)?)
    }

    /// Whether two places are the same for people: a file may be read more than once.
    pub(super) fn is_same(&self, one: Span, other: Span) -> bool {
        let is_same_file = || match (self.file(one.file), self.file(other.file)) {
            (Some(one), Some(other)) => one.name == other.name && one.text == other.text,
            _ => false,
        };
        (one.start, one.end) == (other.start, other.end) && (one.file == other.file || is_same_file())
    }

    /// The first file that is the same one for people.
    pub(super) fn first_of(&self, id: FileId) -> Option<usize> {
        let name = &self.file(id)?.name;
        self.files.iter().position(|file| file.name == *name)
    }

    /// The texts of files that are called so.
    pub(super) fn texts<'n>(
        &self,
        names: impl Iterator<Item = &'n str>,
    ) -> std::collections::BTreeMap<String, String> {
        let found = names.filter_map(|name| self.files.iter().find(|file| file.name == name));
        found.map(|file| (file.name.clone(), file.text.to_owned())).collect()
    }

    /// The text of a span.
    pub(super) fn text(&self, span: Span) -> &'a str {
        self.file(span.file).and_then(|file| file.text.get(span.start()..span.end())).unwrap_or_default()
    }
}
