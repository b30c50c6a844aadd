"""Mechanical faults in C sources (used by tools/mutants): a small tokenizer, and what can be changed at each token.

A fault replaces a few stretches of a file's text and keeps its line numbers, so that only what was changed can make an object differ.
Comments, preprocessor lines, declarations, klog and assert are left alone. sites(path, text) lists all faults of a file, in file order."""
import collections
import hashlib
import re

TOKEN = re.compile(r"""(?P<skip>\s+|//[^\n]*|/\*.*?\*/)
  |(?P<str>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')
  |(?P<num>\.?\d(?:[eEpP][+-]|[\w.])*)|(?P<id>[A-Za-z_]\w*)
  |(?P<op>->|\+\+|--|<<=|>>=|<<|>>|<=|>=|==|!=|&&|\|\||[-+*/%&|^]=|\.\.\.|.)""", re.S | re.X)
CONTROL = {"if", "while", "for", "switch"}
KEYWORDS = CONTROL | {"else", "do", "case", "default", "return", "break", "continue", "goto", "sizeof", "typeof", "struct", "enum", "union",
                      "static", "const", "volatile", "unsigned", "inline", "extern", "typedef"}
TYPES = {"u8", "u16", "u32", "u64", "i8", "i16", "i32", "i64", "bool", "char", "void", "int", "long", "size_t", "paddr_t", "va_list"}
QUIET = {"assert", "static_assert", "_Static_assert", "klog", "__attribute__"}  # arguments of no interest

RELATION = {"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "=="}
ARITHMETIC = {"+": "-", "-": "+", "<<": ">>", ">>": "<<", "&": "|", "|": "&", "^": "|", "+=": "-=", "-=": "+=", "|=": "&=", "&=": "|=",
              "++": "--", "--": "++", "%": "/", "*": "+"}
STATUS = ["SUCCESS", "TIMEOUT", "ABORTED", "BAD_HYP", "BAD_CAP", "BAD_PAR", "BAD_FTR", "BAD_CPU", "BAD_DEV", "BAD_MEM"]
FLAG = re.compile(r"(PERM|MTD|NODE|HZ|EC_HZ|ITEM|INJ|HF|RFLAGS|SVM_MISC[12]|SVM_INT|EFER|CR0|CR4|AR|HIP)_[A-Z0-9_]+$")
PAIRS = [("next", "prev"), ("head", "tail"), ("left", "right"), ("host", "guest"), ("xlt", "del"), ("lo", "hi"), ("above", "below"),
         ("callee", "caller"), ("base", "source"), ("rax", "rcx"), ("rdx", "rbx"), ("rsi", "rdi"), ("rsp", "rbp"), ("r8", "r9"), ("r10", "r11"),
         ("r12", "r13"), ("r14", "r15"), ("from", "to"), ("src", "dst"), ("epoch", "ended"), ("quantum", "left"), ("used", "limit"),
         ("min_u64", "max_u64"), ("cr0", "cr4"), ("cr2", "cr3"), ("ds", "es"), ("fs", "gs"), ("cs", "ss"), ("gdtr", "idtr"), ("lstar", "cstar"),
         ("atomic_fetch_or", "atomic_fetch_and"), ("CONT_USER", "CONT_WAIT"), ("CONT_SYSCALL", "CONT_EVENT"), ("CONT_BLOCKED", "CONT_DEAD"),
         ("SPACE_AGAIN", "SPACE_DONE"), ("EC_LOCAL", "EC_GLOBAL"), ("true", "false"), ("exitinfo1", "exitinfo2"), ("mem", "pio")]
SWAP = {a: b for p in PAIRS for a, b in (p, p[::-1])}
MEMORY = re.compile(r"(atomic_|arch_(tlb|ipi|deadline|mem)|shoot_|cpu_hazard|clgi|stgi|kick|batch_finish)")


class Token:
    def __init__(self, kind, text, start, line):
        self.kind, self.text, self.start, self.end, self.line = kind, text, start, start + len(text), line
        self.mate = None  # index of the other bracket
        self.function = None


def tokenize(text):
    """Tokens without comments and preprocessor lines; brackets know their mates, tokens their function's first line."""
    hide = lambda m: re.sub(r"[^\n]", " ", m.group())
    text = re.sub(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", hide, text, flags=re.M)
    tokens, stack, pos, line = [], [], 0, 1
    while pos < len(text):
        m = TOKEN.match(text, pos)
        if m.lastgroup != "skip":
            t = Token(m.lastgroup, m.group(), pos, line)
            tokens.append(t)
            if t.text in "([{":
                stack.append(len(tokens) - 1)
            elif t.text in ")]}" and stack:
                t.mate = stack.pop()
                tokens[t.mate].mate = len(tokens) - 1
        line += m.group().count("\n")
        pos = m.end()
    i = 0
    while i < len(tokens):  # bodies of functions
        if tokens[i].text == "{":
            if tokens[i - 1].text == ")":
                for t in tokens[i:tokens[i].mate]:
                    t.function = tokens[i].line
            i = tokens[i].mate
        i += 1
    return tokens


class Fault:
    def __init__(self, path, text, kind, edits):
        """edits: (start, end, new text)"""
        self.path, self.kind, self.lines = path, kind, []
        for start, end, new in sorted(edits, reverse=True):
            self.lines.append(text.count("\n", 0, start) + 1)
            text = text[:start] + new + "\n" * (text.count("\n", start, end) - new.count("\n")) + text[end:]
        self.lines.reverse()
        self.text = text
        self.edits = edits
        self.function = None

    def describe(self, old):
        """Before and after: the lines concerned, blanks normalised."""
        squeeze = lambda s: " ".join(re.sub(r"/\*.*?\*/|/\*.*$|//.*$", "", s).split())
        before, after = old.split("\n"), self.text.split("\n")
        changed = [i for i, (a, b) in enumerate(zip(before, after)) if a != b]
        return " / ".join(squeeze(before[i]) for i in changed) + " => " + " / ".join(squeeze(after[i]) or ";" for i in changed)


def statement_starts(tokens):
    """Indices at which a statement begins, inside functions."""
    starts = set()
    for i, t in enumerate(tokens[1:], 1):
        p = tokens[i - 1]
        if not t.function:
            continue
        if p.text in (";", "{", "}", "else", "do"):
            starts.add(i)
        elif p.text == ")" and tokens[p.mate - 1].text in CONTROL:
            starts.add(i)
        elif p.text == ":" and (tokens[i - 2].text == "default" or tokens[i - 3].text == "case"):
            starts.add(i)
    parens = [(t.mate, i) for i, t in enumerate(tokens) if t.text == ")"]
    inside_for = {k for a, b in parens if tokens[a - 1].text == "for" for k in range(a, b)}
    return sorted(starts - inside_for)


def statement_end(tokens, i):
    while tokens[i].text != ";":
        i = tokens[i].mate if tokens[i].text in "([{" else i
        if i is None or tokens[i].text in ")}]" and i + 1 >= len(tokens):
            return None
        i += 1
    return i


def token_faults(tokens, i):
    """(kind, new text) for the token alone."""
    t, p, n = tokens[i], tokens[i - 1], tokens[i + 1]
    binary = p.kind in ("num", "id", "str") and p.text not in KEYWORDS or p.text in (")", "]")
    binary = binary and not (t.text == "*" and (p.text in TYPES or tokens[i - 2].text in ("struct", "enum")))
    binary = binary and not (p.text == ")" and tokens[p.mate + 1].text in TYPES | {"struct", "const", "unsigned"})  # a cast
    out = []
    if t.text in ("&&", "||"):
        out.append(("logic", "||" if t.text == "&&" else "&&"))
    elif t.text in RELATION:
        out.append(("relation", RELATION[t.text]))
    elif t.text in ("++", "--") or t.text in ARITHMETIC and binary:
        out.append(("arithmetic", ARITHMETIC[t.text]))
    elif t.text in ("!", "~") and not binary:
        out.append(("negation dropped", " "))
    elif t.kind == "num" and re.fullmatch(r"\d+[ul]*|0x[0-9a-f]+[ul]*", t.text):
        value = int(re.sub(r"[ul]+$", "", t.text), 0)
        suffix = re.search(r"[ul]*$", t.text).group()
        out.append(("off by one", "%d%s" % (value + 1, suffix)))
        if value > 1:
            out.append(("off by one", "%d%s" % (value - 1, suffix)))
    elif t.kind == "id" and t.text.startswith("NOVA_") and t.text[5:] in STATUS:
        others = [s for s in STATUS if s != t.text[5:]]
        out.append(("status swapped", "NOVA_" + others[t.start % len(others)]))
    elif t.kind == "id" and FLAG.match(t.text) and n.text != "(" and p.text != "case":
        out.append(("bit dropped", "0"))
    elif t.kind == "id" and t.text in SWAP and n.text != ":":
        member = p.text in ("->", ".")
        if member or t.text[0].isupper() or n.text == "(" or t.text in ("true", "false", "above", "below", "epoch", "ended"):
            out.append(("swapped", SWAP[t.text]))
    return [(kind, [(t.start, t.end, new)]) for kind, new in out]


def statement_faults(tokens, i, text):
    """Dropped statements: calls, locks (with their unlocks), assignments, early ends."""
    t = tokens[i]
    end = statement_end(tokens, i)
    if end is None or t.text in QUIET or t.text in "{};" or tokens[i + 1].text == ":":
        return []
    span = (t.start, tokens[end].end)
    words = [x.text for x in tokens[i:end]]
    if t.text in ("break", "continue", "return"):
        return [] if tokens[end + 1].function is None else [("%s dropped" % t.text, [(*span, ";")])]
    if t.text in KEYWORDS | TYPES and t.text not in ("typeof",):
        return []
    if words[:3] == ["(", "void", ")"]:
        words, i = words[3:], i + 3
    callee = re.fullmatch(r"\w+", words[0]) and len(words) > 2 and words[1] == "(" and tokens[i + 1].mate == end - 1
    if callee:
        if words[0] == "spin_unlock":
            return []
        if words[0] == "spin_lock":
            edits = [(*span, ";")]
            k = end
            while k < len(tokens) and tokens[k].function == t.function:
                if tokens[k].text == "spin_unlock" and [x.text for x in tokens[k + 1:k + 1 + len(words) - 1]] == words[1:]:
                    edits.append((tokens[k].start, tokens[k + len(words)].end, ";"))
                k += 1
            return [("lock dropped", edits)]
        return [("flush or atomic dropped" if MEMORY.match(words[0]) else "call dropped", [(*span, ";")])]
    depth, assign = 0, False
    for w in words:
        depth += (w in "([{") - (w in ")]}")
        assign |= depth == 0 and w in ("=", "+=", "-=", "|=", "&=", "++", "--")
    declaration = len(words) > 1 and t.kind == "id" and (tokens[i + 1].kind == "id" or (words[1] == "*" and tokens[i + 2].kind == "id"))
    return [("assignment dropped", [(*span, ";")])] if assign and not declaration else []


def condition_faults(tokens, i):
    if tokens[i].text not in ("if", "while") or tokens[i + 1].text != "(":
        return []
    a, b = tokens[i + 1], tokens[tokens[i + 1].mate]
    return [("condition negated", [(a.end, a.end, "!("), (b.start, b.start, ")")])]


def sites(path, text):
    tokens = tokenize(text)
    quiet, faults = set(), []
    for i, t in enumerate(tokens):
        if t.text in QUIET and tokens[i + 1].text == "(":
            quiet.update(range(i, tokens[i + 1].mate + 1))
        if not t.function and t.text in ("enum", "struct", "union"):  # declarations of types
            k = i
            while tokens[k].text not in "{;()=":
                k += 1
            if tokens[k].text == "{":
                quiet.update(range(i, tokens[k].mate + 1))

    def add(i, found):
        for kind, edits in found:
            f = Fault(path, text, kind, edits)
            f.function = tokens[i].function
            faults.append(f)

    table = False  # in the initialiser of a static object
    for i, t in enumerate(tokens[:-1]):
        if not t.function:
            table = t.text == "=" or table and t.text != ";"
        if i and i not in quiet and (t.function or table and t.kind in ("num", "id")):
            add(i, token_faults(tokens, i))
            if t.function:
                add(i, condition_faults(tokens, i))
    for i in statement_starts(tokens):
        if i not in quiet:
            add(i, statement_faults(tokens, i, text))
    return faults


def sample(texts, seed):
    """All faults of the files {path: text} in the order of the seed: one of every file first, then as they come. The order is that of what they
    change, not of where: a fault stays in the sample while its line is as it was."""
    keyed, times = [], collections.Counter()
    for path, text in sorted(texts.items()):
        for f in sites(path, text):
            what = (seed, path, f.kind, f.describe(text))
            times[what] += 1
            keyed.append((hashlib.sha256(repr((what, times[what])).encode()).digest(), f))
    keyed.sort(key=lambda k: k[0])
    first, rest, seen = [], [], set()
    for _, f in keyed:
        (rest if f.path in seen else first).append(f)
        seen.add(f.path)
    return first + rest
