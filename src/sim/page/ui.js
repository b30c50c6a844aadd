// Zoom, pan, search, list, details.
const $ = id => document.getElementById(id);
const list = $('list'), tip = $('tip');
let waiting = false, hitAt = -1, squeezed = true;
const errors = [];
addEventListener('error', e => errors.push(String(e.message)));

function redraw() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; draw(); });
}
const fitScale = () => (view.width - GUTTER - 14) / axisLength();
function clamp() {
    view.scale = Math.min(Math.max(view.scale, fitScale()), 20);
    view.at = Math.min(Math.max(view.at, 0), Math.max(0, axisLength() - (view.width - GUTTER - 14) / view.scale));
    view.y = Math.min(Math.max(view.y, 0), Math.max(0, view.total - (view.height - AXIS - MAP)));
}
function zoom(factor, x) {
    if (x === undefined) x = picked && X(picked.t) > GUTTER && X(picked.t) < view.width ? X(picked.t) : (GUTTER + view.width) / 2;
    const position = view.at + (x - GUTTER) / view.scale;
    view.scale *= factor;
    clamp();
    view.at = position - (x - GUTTER) / view.scale;
    clamp();
    redraw();
}
function pan(dx, dy) {
    view.at += dx / view.scale;
    view.y += dy || 0;
    clamp();
    redraw();
}
function fit() { view.scale = fitScale(); view.at = 0; clamp(); redraw(); }
function resize() {
    const r = canvas.getBoundingClientRect(), ratio = window.devicePixelRatio || 1, whole = view.scale <= fitScale() * 1.001;
    view.width = r.width, view.height = r.height;
    canvas.width = Math.round(r.width * ratio), canvas.height = Math.round(r.height * ratio);
    lanesPlace();
    if (whole) fit();
    clamp();
    redraw();
    rowsShow();
}

// An event is picked: it is in the middle of the view, in the list and in the details.
function pick(e, from) {
    picked = e;
    if (e) {
        const x = X(e.t);
        if (from !== 'canvas' && (x < GUTTER + 30 || x > view.width - 30 || view.scale < 0.3)) {
            if (view.scale < 0.3) view.scale = 0.6;
            view.at = toAxis(e.t) - (view.width - GUTTER) / 2 / view.scale;
        }
        const y = laneY(e.cpu);
        if (y < AXIS + MAP || y + L[e.cpu].height > view.height) view.y = L[e.cpu].top - 20;
        clamp();
        const top = e.i * 18;
        if (from !== 'list' && (top < list.scrollTop + 18 || top > list.scrollTop + list.clientHeight - 40))
            list.scrollTop = top - list.clientHeight / 2;
    }
    detailsShow();
    rowsShow();
    redraw();
}
function hitGo(step) {
    if (!hits.length) return;
    hitAt = (hitAt + step + hits.length) % hits.length;
    hitsShow();
    pick(hits[hitAt], 'search');
}
function hitsShow() { $('hits').textContent = $('find').value.trim() ? (hits.length ? (hitAt + 1) + ' of ' + hits.length : 'not found') : ''; }
function find(words) {
    search(words);
    hitAt = -1;
    hitsShow();
    rowsShow();
    redraw();
}

// --- the list: only rows that can be seen exist ---
const spacer = document.createElement('div');
spacer.style.height = E.length * 18 + 'px';
list.append(spacer);
let rows = [];
function element(name, className, text) {
    const n = document.createElement(name);
    if (className) n.className = className;
    if (text !== undefined) n.textContent = text;
    return n;
}
function ecElement(ec, className) {
    const n = element('span', className);
    if (ec) {
        const dot = element('i', 'dot');
        dot.style.background = ecColour(ec);
        n.append(dot, ecName(ec));
    }
    return n;
}
function rowsShow() {
    const first = Math.max(0, Math.floor(list.scrollTop / 18) - 3), end = Math.min(E.length, first + Math.ceil(list.clientHeight / 18) + 7);
    rows.forEach(r => r.remove());
    rows = [];
    for (let i = first; i < end; i++) {
        const e = E[i], r = element('div', 'row' + (e === picked ? ' pick' : '') + (hitSet.has(e) ? ' hit' : '') + (e.kind === FAIL ? ' bad' : ''));
        r.style.top = i * 18 + 'px';
        r.append(element('span', 't', us(e.t)), element('span', 'c', e.cpu), ecElement(e.ec, 'e'), element('span', 'what', '  '.repeat(Math.min(e.depth, 20)) + e.text));
        r.onclick = () => pick(e, 'list');
        rows.push(r);
    }
    list.append(...rows);
}

function detailsShow() {
    const d = $('details'), e = picked;
    d.replaceChildren();
    if (!e) {
        const p = element('p');
        p.innerHTML = 'Wheel: zoom (Shift: along, Alt: up and down). Drag: move. Click: details.<br><kbd>/</kbd> find &nbsp; <kbd>Enter</kbd> next hit &nbsp; <kbd>j</kbd> <kbd>k</kbd> next, previous event<br>' +
            '<kbd>+</kbd> <kbd>-</kbd> <kbd>0</kbd> zoom &nbsp; <kbd>&larr;</kbd> <kbd>&rarr;</kbd> move<br><br>A lane per CPU. A program stands as high as its call is deep, in its EC’s colour; ' +
            'hatched: a guest. Grey below: the kernel. The strip under it: whose scheduling context pays. Triangles: interrupts, red ones preemption.';
        d.append(p);
        return;
    }
    d.append(element('h2', '', e.text));
    const dl = element('dl'), add = (k, v) => { const dd = element('dd'); dd.append(v); dl.append(element('dt', '', k), dd); };
    add('time', us(e.t) + ' µs');
    add('CPU', String(e.cpu));
    if (e.ec) add('EC', ecElement(e.ec));
    add('kind', KIND[e.kind]);
    if (e.depth) add('call depth', String(e.depth));
    d.append(dl);
    for (const a of e.arrows || []) {
        const other = a.from === e ? a.to : a.from, p = element('p', '', ARROW[a.kind].name + (a.from === e ? ' → ' : ' ← '));
        if (other && other !== e) {
            const link = element('a', '', us(other.t) + ' CPU ' + other.cpu + (other.ec ? ', EC ' + ecName(other.ec) : '') + ': ' + other.text);
            link.onclick = () => pick(other, 'details');
            p.append(link);
        } else if (!other) {
            p.append('never arrived');
        }
        d.append(p);
    }
}

// --- what is under the mouse ---
function laneAt(y) { return L.find(l => y >= laneY(l.cpu) && y < laneY(l.cpu) + l.height); }
function distance(a, x, y) {
    const [x1, y1, x2, y2] = arrowPoints(a), dx = x2 - x1, dy = y2 - y1, n = dx * dx + dy * dy;
    const k = n ? Math.min(1, Math.max(0, ((x - x1) * dx + (y - y1) * dy) / n)) : 0;
    return Math.hypot(x - x1 - k * dx, y - y1 - k * dy);
}
function under(x, y) {
    const lane = laneAt(y), found = {lane, seg: null, events: [], arrow: null};
    if (!lane || x < GUTTER) return found;
    const t = timeAt(x), slack = 4 / view.scale;
    found.seg = lane.segs[Math.min(lowerBound(lane.segs, s => s.end, t), lane.segs.length - 1)];
    for (let i = lowerBound(lane.events, e => e.t, timeAt(x - 4)); i < lane.events.length && lane.events[i].t <= timeAt(x + 4) + slack * 0; i++)
        found.events.push(lane.events[i]);
    let best = 5;
    for (const a of view.visible || [])
        if (shown[a.kind]) { const d = distance(a, x, y); if (d < best) { best = d; found.arrow = a; } }
    return found;
}
function tipShow(ev) {
    const r = canvas.getBoundingClientRect(), x = ev.clientX - r.left, y = ev.clientY - r.top, u = under(x, y);
    const was = hovered;
    hovered = u.arrow;
    if (was !== hovered) redraw();
    tip.hidden = !u.seg || y < MAP + AXIS;
    if (tip.hidden) return;
    tip.replaceChildren();
    const s = u.seg, head = element('div'), name = element('b', '', s.ec && s.state !== IDLE ? 'EC ' + ecName(s.ec) : STATE[s.state]);
    head.append(name, s.ec ? ' · ' + STATE[s.state] : '', element('span', 'time', '  ' + us(s.t) + ' – ' + us(s.end) + ' µs (' + us(s.end - s.t) + ')'));
    tip.append(head);
    if (s.payer && s.payer !== s.ec) tip.append(element('p', '', 'on the time of EC ' + ecName(s.payer)));
    if (u.arrow) tip.append(element('p', '', ARROW[u.arrow.kind].name + ': ' + u.arrow.from.text + (u.arrow.to ? ' → ' + us(u.arrow.to.t) : ' (never arrived)')));
    for (const e of u.events.slice(0, 6)) { const p = element('p'); p.append(element('span', 'time', us(e.t) + '  '), e.text); tip.append(p); }
    if (u.events.length > 6) tip.append(element('p', 'time', 'and ' + (u.events.length - 6) + ' more: zoom in'));
    const w = tip.offsetWidth, h = tip.offsetHeight;
    tip.style.left = Math.min(ev.clientX + 14, innerWidth - w - 8) + 'px';
    tip.style.top = (ev.clientY + 18 + h > innerHeight ? ev.clientY - h - 12 : ev.clientY + 18) + 'px';
}

let drag = null;
function mapGo(x) { view.at = (x - GUTTER) / (view.width - GUTTER) * axisLength() - (view.width - GUTTER) / 2 / view.scale; clamp(); redraw(); }
canvas.onpointerdown = ev => {
    canvas.setPointerCapture(ev.pointerId);
    drag = {x: ev.clientX, y: ev.clientY, moved: false, map: ev.offsetY < MAP};
    if (drag.map) mapGo(ev.offsetX);
    canvas.classList.add('drag');
};
canvas.onpointermove = ev => {
    if (!drag) { tipShow(ev); return; }
    if (drag.map) { mapGo(ev.offsetX); return; }
    drag.moved = drag.moved || Math.hypot(ev.clientX - drag.x, ev.clientY - drag.y) > 3;
    if (!drag.moved) return;
    tip.hidden = true;
    pan(drag.x - ev.clientX, drag.y - ev.clientY);
    drag.x = ev.clientX, drag.y = ev.clientY;
};
canvas.onpointerup = ev => {
    canvas.classList.remove('drag');
    const was = drag;
    drag = null;
    if (!was || was.moved || was.map) return;
    const u = under(ev.offsetX, ev.offsetY), near = u.events.slice().sort((a, b) => Math.abs(X(a.t) - ev.offsetX) - Math.abs(X(b.t) - ev.offsetX))[0];
    const within = u.seg && u.lane.events[Math.max(0, lowerBound(u.lane.events, e => e.t, u.seg.t + 0.5) - 1)];
    pick(u.arrow ? u.arrow.from : near || within || null, 'canvas');
};
canvas.onpointerleave = () => { tip.hidden = true; };
canvas.addEventListener('wheel', ev => {
    ev.preventDefault();
    if (ev.shiftKey || Math.abs(ev.deltaX) > Math.abs(ev.deltaY)) pan(ev.deltaX || ev.deltaY);
    else if (ev.altKey) pan(0, ev.deltaY);
    else zoom(Math.pow(1.0018, -ev.deltaY), Math.max(ev.offsetX, GUTTER));
}, {passive: false});
list.onscroll = rowsShow;

const keys = {
    '/': () => $('find').focus(), '+': () => zoom(1.6), '=': () => zoom(1.6), '-': () => zoom(1 / 1.6), '0': fit,
    ArrowLeft: () => pan(-120), ArrowRight: () => pan(120), ArrowUp: () => pan(0, -60), ArrowDown: () => pan(0, 60),
    j: () => pick(E[Math.min(E.length - 1, picked ? picked.i + 1 : 0)]), k: () => pick(E[Math.max(0, picked ? picked.i - 1 : 0)]),
    n: () => hitGo(1), p: () => hitGo(-1), Escape: () => pick(null),
};
addEventListener('keydown', ev => {
    if (ev.target === $('find')) {
        if (ev.key === 'Enter') { ev.preventDefault(); hitGo(ev.shiftKey ? -1 : 1); }
        if (ev.key === 'Escape') { $('find').value = ''; find(''); canvas.focus(); }
        return;
    }
    if (keys[ev.key] && !ev.ctrlKey && !ev.metaKey && !ev.altKey) { ev.preventDefault(); keys[ev.key](); }
});
$('find').oninput = () => find($('find').value);
$('next').onclick = () => hitGo(1);
$('prev').onclick = () => hitGo(-1);
$('in').onclick = () => zoom(1.6);
$('out').onclick = () => zoom(1 / 1.6);
$('fit').onclick = fit;
let failAt = -1;
$('fail').onclick = () => { failAt = (failAt + 1) % FAILURES.length; pick(FAILURES[failAt], 'search'); };
function squeeze(on) {
    squeezed = on;
    const t = timeAt((GUTTER + view.width) / 2), whole = view.scale <= fitScale() * 1.001;
    axisMake(on);
    $('squeeze').textContent = on ? 'Idle: short' : 'Idle: full';
    $('squeeze').setAttribute('aria-pressed', on);
    if (whole) { fit(); return; }
    view.at = toAxis(t) - (view.width - GUTTER) / 2 / view.scale;
    clamp();
    redraw();
}
$('squeeze').onclick = () => squeeze(!squeezed);

function legendMake() {
    const counts = ARROW.map((_, k) => A.filter(a => a.kind === k).length);
    $('legend').replaceChildren();
    ARROW.forEach((style, k) => {
        if (!counts[k]) return;
        const b = element('button');
        b.innerHTML = `<svg viewBox="0 0 24 10"><path d="M0 5H18" stroke="${style.colour[dark ? 1 : 0]}" stroke-width="${style.width}" stroke-dasharray="${style.dash}"/><path d="M24 5L17 1.6V8.4Z" fill="${style.colour[dark ? 1 : 0]}"/></svg>`;
        b.append(style.name + ' ' + counts[k]);
        b.title = 'Show or hide these arrows';
        b.setAttribute('aria-pressed', shown[k]);
        b.onclick = () => { shown[k] = !shown[k]; b.setAttribute('aria-pressed', shown[k]); redraw(); };
        $('legend').append(b);
    });
}

function start() {
    document.title = D.name + ' · seed ' + D.seed;
    $('name').textContent = D.name;
    $('result').textContent = D.result + (D.failures ? ', ' + D.failures + (D.failures > 1 ? ' failures' : ' failure') : '');
    $('result').classList.toggle('bad', !D.good);
    const facts = [['seed', D.seed], ['CPUs', D.cpus + ' (' + D.machine + ')'], ['time', us(D.end) + ' µs'], ['events', E.length + (D.cut ? ' (the last ' + D.cut + ' are cut)' : '')], ['commit', D.commit || '–'], ['hash', D.hash]];
    for (const [k, v] of facts) { const div = element('div'); div.append(element('dt', '', k), element('dd', '', v)); $('meta').append(div); }
    $('fail').hidden = !FAILURES.length;
    const look = () => { coloursRead(); hatching = hatch('rgba(16, 21, 28, .45)'); legendMake(); redraw(); };
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', look);
    look();
    lanesPlace();
    squeeze(true);
    resize();
    fit();
    new ResizeObserver(resize).observe(canvas);
    detailsShow();
    if (FAILURES.length && !location.hash) pick(FAILURES[0], 'search');
}

// How many pixels of each lane are not of its most frequent colour.
function lanesInk() {
    const ratio = window.devicePixelRatio || 1, pixels = new Uint32Array(g.getImageData(0, 0, canvas.width, canvas.height).data.buffer);
    return L.map(lane => {
        const seen = new Map(), from = Math.round(laneY(lane.cpu) * ratio), end = Math.min(canvas.height, Math.round((laneY(lane.cpu) + lane.height) * ratio));
        let n = 0;
        for (let y = from; y < end; y++)
            for (let x = Math.round(GUTTER * ratio); x < canvas.width; x++, n++) { const p = pixels[y * canvas.width + x]; seen.set(p, (seen.get(p) || 0) + 1); }
        return n - Math.max(0, ...seen.values());
    });
}

// #selftest=WORD: does what a reader does and writes what came of it into the document (tests/trace/run).
function selftest(word) {
    const out = {errors};
    squeeze(true), fit(), draw();
    out.fit = {...view.stats, scale: view.scale};
    out.lanes = L.length;
    out.ink = lanesInk();
    out.arrows = Object.fromEntries(ARROW.map((s, k) => [s.name, A.filter(a => a.kind === k).length]));
    out.lost = A.filter(a => !a.to).length;
    const before = performance.now();
    for (let i = 0; i < 10; i++) draw();
    out.drawMs = (performance.now() - before) / 10;
    $('in').click(), $('in').click(), draw();
    out.zoomed = {...view.stats, scale: view.scale};
    canvas.dispatchEvent(new WheelEvent('wheel', {deltaY: -400, clientX: 700, clientY: 200, cancelable: true}));
    draw();
    out.wheel = view.scale;
    const at = view.at;
    pan(100), draw();
    out.panned = view.at - at;
    $('fit').click(), draw();
    out.refit = view.scale;
    $('find').value = word;
    $('find').dispatchEvent(new Event('input'));
    out.hits = hits.length;
    $('next').click();
    out.hit = picked && {text: picked.text, i: picked.i, x: X(picked.t), width: view.width};
    $('next').click();
    out.second = picked && picked.i;
    $('prev').click();
    out.back = picked && picked.i;
    out.hitsText = $('hits').textContent;
    out.rows = [...document.querySelectorAll('.row.pick .what')].map(n => n.textContent.trim());
    const place = canvas.getBoundingClientRect(), lane = L[picked.cpu], mouse = type => canvas.dispatchEvent(new PointerEvent(type,
        {clientX: place.left + X(picked.t), clientY: place.top + laneY(lane.cpu) + lane.height - 12, pointerId: 1, bubbles: true}));
    mouse('pointermove');
    out.tip = tip.hidden ? '' : tip.textContent;
    out.details = $('details').textContent;
    $('squeeze').click(), $('fit').click(), draw();
    out.full = axisLength();
    $('squeeze').click(), $('fit').click(), draw();
    out.squeezed = axisLength();
    out.result = $('result').textContent, out.bad = $('result').classList.contains('bad'), out.failures = FAILURES.length;
    out.events = E.length;
    const pre = element('pre', '', JSON.stringify(out));
    pre.id = 'selftest', pre.hidden = true;
    document.body.append(pre);
}
start();
// #find=WORDS&zoom=N: opens at the first hit.
const asked = new URLSearchParams(location.hash.slice(1));
if (asked.has('selftest')) selftest(asked.get('selftest'));
if (asked.has('find')) { $('find').value = asked.get('find'); find(asked.get('find')); hitGo(1); }
if (asked.has('zoom')) { zoom(Number(asked.get('zoom'))); draw(); }
