// The timeline on its canvas. View: position `view.at` of the axis stands at the left edge, `view.scale` pixels a unit.
const canvas = document.getElementById('lanes'), g = canvas.getContext('2d');
const GUTTER = 74, AXIS = 26, MAP = 30, KERNEL_H = 9, PAY_H = 4, PAD = 10, DEPTH_MOST = 7;
let ROW = 19; // height of a program; more where few CPUs leave room
const view = {at: 0, scale: 1, y: 0, width: 800, height: 400};
const shown = ARROW.map(() => true);
let picked = null, hovered = null, colours = {}, dark = false;

function laneHeight(lane) { return (Math.min(lane.depth, DEPTH_MOST) + 1) * ROW + KERNEL_H + PAY_H + 2 * PAD; }
function lanesPlace() {
    const room = view.height - AXIS - MAP, rows = L.reduce((sum, lane) => sum + Math.min(lane.depth, DEPTH_MOST) + 1, 0);
    ROW = Math.min(34, Math.max(11, Math.floor((room - L.length * (KERNEL_H + PAY_H + 2 * PAD)) / rows)));
    let y = 0;
    for (const lane of L) {
        lane.top = y;
        lane.height = laneHeight(lane);
        y += lane.height;
    }
    const spare = room - y;
    if (spare > 0) {
        const more = Math.min(spare / L.length, 40);
        L.forEach((lane, i) => { lane.top += i * more; lane.height += more; });
    }
    const last = L[L.length - 1];
    view.total = last.top + last.height;
}
const X = t => GUTTER + (toAxis(t) - view.at) * view.scale;
const timeAt = x => toTime(view.at + (x - GUTTER) / view.scale);
const laneY = cpu => AXIS + MAP + L[cpu].top - view.y;
const baseY = cpu => laneY(cpu) + L[cpu].height - PAD - PAY_H - KERNEL_H; // top of the kernel's row
const rowY = (cpu, depth) => baseY(cpu) - (Math.min(depth, DEPTH_MOST) + 1) * ROW;
const midY = (cpu, depth) => rowY(cpu, depth) + ROW / 2;

function coloursRead() {
    const style = getComputedStyle(document.documentElement);
    for (const name of ['bg', 'panel', 'line', 'text', 'muted', 'band', 'kernel', 'idle', 'lock', 'accent', 'bad', 'hit'])
        colours[name] = style.getPropertyValue('--' + name).trim();
    dark = matchMedia('(prefers-color-scheme: dark)').matches;
}
function hatch(colour) {
    const tile = document.createElement('canvas');
    tile.width = tile.height = 6;
    const t = tile.getContext('2d');
    t.strokeStyle = colour;
    t.lineWidth = 1.4;
    t.beginPath();
    for (const d of [-6, 0, 6]) { t.moveTo(d, 6); t.lineTo(d + 6, 0); }
    t.stroke();
    return g.createPattern(tile, 'repeat');
}
let hatching = null;

function box(x, y, w, h, colour, radius) {
    g.fillStyle = colour;
    if (w < 4) { g.fillRect(x, y, Math.max(w, 0.7), h); return; }
    g.beginPath();
    g.roundRect(x, y, w, h, radius);
    g.fill();
}

const inkOn = colour => parseInt(colour.slice(1, 3), 16) * 0.3 + parseInt(colour.slice(3, 5), 16) * 0.59 + parseInt(colour.slice(5), 16) * 0.11 < 110 ? '#ffffff' : '#10151c';

// Text in a box that may begin left of the edge.
function boxText(text, x, y, w, colour) {
    const left = Math.max(x, GUTTER) + 5, room = x + w - left - 4;
    if (room < 22) return;
    g.fillStyle = colour;
    let s = text;
    if (g.measureText(s).width > room) {
        s = s.slice(0, Math.max(1, Math.floor(s.length * room / g.measureText(s).width) - 1)) + '…';
        if (s.length < 4) return;
    }
    g.fillText(s, left, y);
}

function segDraw(lane, s, x, w) {
    const base = baseY(lane.cpu), stats = view.stats;
    stats.segs++;
    if (s.state === IDLE) { box(x, base + KERNEL_H / 2 - 0.5, w, 1, colours.kernel, 0); return; }
    if (s.state === BOOT) { box(x, base + 2, w, KERNEL_H - 4, colours.idle, 1); return; }
    if (s.payer) box(x, base + KERNEL_H + 2, w, PAY_H, ecColour(s.payer), 0);
    const y = rowY(lane.cpu, s.depth), colour = ecColour(s.ec), inKernel = s.state === KERNEL || s.state === LOCK;
    if (inKernel) box(x, base, w, KERNEL_H, s.state === LOCK ? colours.lock : colours.kernel, 1);
    if (inKernel && !s.ec) return;
    g.globalAlpha = 0.13; // the tower that it stands on: who called
    if (s.depth && w > 0.5) box(x, y + ROW, w, base - y - ROW, colour, 0);
    g.globalAlpha = 1;
    if (inKernel) { // on its behalf: its place stays visible
        g.globalAlpha = 0.3;
        box(x, y + ROW / 5, w, ROW * 0.6, colour, 0);
        g.globalAlpha = 1;
        if (w > 60) boxText(ecName(s.ec), x, y + ROW / 2 + 0.5, w, colours.muted);
        return;
    }
    box(x, y + 1, w, ROW - 2, colour, 3);
    if (s.state === GUEST) { g.fillStyle = hatching; g.fillRect(x, y + 1, w, ROW - 2); }
    if (w > 26) boxText(ecName(s.ec), x, y + ROW / 2 + 0.5, w, inkOn(colour));
}

const laneHidden = lane => laneY(lane.cpu) + lane.height < AXIS + MAP || laneY(lane.cpu) > view.height;
function bandDraw(lane) {
    g.fillStyle = lane.cpu % 2 ? colours.bg : colours.band;
    g.fillRect(0, laneY(lane.cpu), view.width, lane.height);
    g.fillStyle = colours.line;
    g.fillRect(0, laneY(lane.cpu) + lane.height - 1, view.width, 1);
}
function laneDraw(lane) {
    if (laneHidden(lane)) return;
    view.stats.lanes++;
    const t0 = timeAt(GUTTER), t1 = timeAt(view.width);
    let done = -1, wide = {}; // pixels that are full already: the longest segment of a pixel stands for it
    const flush = () => { if (wide.s) segDraw(lane, wide.s, wide.x, 1); wide = {}; };
    for (let i = Math.max(0, lowerBound(lane.segs, s => s.end, t0)); i < lane.segs.length && lane.segs[i].t <= t1; i++) {
        const s = lane.segs[i], x = Math.max(X(s.t), GUTTER - 8), w = Math.min(X(s.end), view.width + 8) - x;
        if (w < 0.6) {
            const pixel = Math.floor(x);
            if (pixel !== done) { flush(); done = pixel; }
            if (!wide.s || w > wide.w || (wide.s.state !== USER && s.state === USER)) wide = {s, x: pixel, w};
            continue;
        }
        flush();
        segDraw(lane, s, x, w);
    }
    flush();
    marksDraw(lane, t0, t1);
}

// Events that deserve a mark: failures, hits, preemption, interrupts.
function marksDraw(lane, t0, t1) {
    const y = laneY(lane.cpu), base = baseY(lane.cpu);
    let last = {};
    for (let i = lowerBound(lane.events, e => e.t, t0); i < lane.events.length && lane.events[i].t <= t1; i++) {
        const e = lane.events[i], x = X(e.t), hit = hitSet.has(e), kind = e.kind;
        if (kind !== FAIL && !hit && kind !== 7 && kind !== 8 && kind !== 12 && view.scale < 0.4) continue;
        const pixel = Math.round(x);
        if (kind !== FAIL && last[hit ? 'h' : kind] === pixel) continue;
        last[hit ? 'h' : kind] = pixel;
        if (kind === FAIL) {
            g.fillStyle = colours.bad;
            g.fillRect(x - 1, y + 2, 2, lane.height - 4);
            g.beginPath(); g.moveTo(x - 6, y + 2); g.lineTo(x + 6, y + 2); g.lineTo(x, y + 12); g.fill();
            continue;
        }
        if (hit) {
            g.fillStyle = colours.hit;
            g.globalAlpha = e === picked ? 0.45 : 1; // under the line of the picked one
            g.fillRect(x - (e === picked ? 4 : 1), y + 3, e === picked ? 8 : 2, lane.height - 6);
            g.globalAlpha = 1;
        }
        if (kind === 7 || kind === 8) { // a small triangle under the kernel's row
            g.fillStyle = kind === 7 ? colours.bad : colours.muted;
            g.beginPath(); g.moveTo(x, base + KERNEL_H + 7); g.lineTo(x - 3.5, base + KERNEL_H + 13); g.lineTo(x + 3.5, base + KERNEL_H + 13); g.fill();
        } else {
            g.fillStyle = colours.text;
            g.fillRect(x - 0.5, base, 1, KERNEL_H);
        }
    }
}

function arrowPoints(a) {
    const x1 = X(a.t1), x2 = X(a.t2), y1 = midY(a.cpu1, a.d1), y2 = midY(a.cpu2, a.d2);
    if (a.kind === 4 || a.kind === 5) return [x1, baseY(a.cpu1) + KERNEL_H / 2, x2, baseY(a.cpu2) + KERNEL_H / 2];
    return [x1, y1, x2, y2];
}
function arrowDraw(a, strong) {
    const [x1, y1, x2, y2] = arrowPoints(a), style = ARROW[a.kind], colour = style.colour[dark ? 1 : 0];
    g.strokeStyle = g.fillStyle = colour;
    g.lineWidth = style.width + (strong ? 1.2 : 0);
    g.setLineDash(a.to ? style.dash : [1, 4]);
    g.beginPath();
    g.moveTo(x1, y1);
    let bx, by; // where the curve comes from at its end
    if (a.cpu1 === a.cpu2 && Math.abs(y2 - y1) < 2) { // along a row: an arch over it
        bx = (x1 + x2) / 2, by = y1 - Math.min(14 + Math.abs(x2 - x1) / 10, 46);
        g.quadraticCurveTo(bx, by, x2, y2 - 2);
    } else {
        const bend = Math.min(Math.max(Math.abs(x2 - x1) / 2, 8), 60);
        bx = x2 - bend, by = y2;
        g.bezierCurveTo(x1 + bend, y1, bx, by, x2, y2);
    }
    g.stroke();
    g.setLineDash([]);
    const angle = Math.atan2(y2 - by, x2 - bx), size = strong ? 8 : 6;
    g.beginPath();
    g.moveTo(x2, y2);
    g.lineTo(x2 - size * Math.cos(angle - 0.45), y2 - size * Math.sin(angle - 0.45));
    g.lineTo(x2 - size * Math.cos(angle + 0.45), y2 - size * Math.sin(angle + 0.45));
    g.fill();
}
const longest = A.reduce((m, a) => Math.max(m, a.t2 - a.t1), 0);
function arrowsVisible() {
    const t0 = timeAt(GUTTER), t1 = timeAt(view.width), out = [];
    for (let i = lowerBound(A, a => a.t1, t0 - longest); i < A.length && A[i].t1 <= t1; i++)
        if (A[i].t2 >= t0) out.push(A[i]);
    return out;
}
function arrowsDraw() {
    const all = arrowsVisible(), seen = new Set(), mine = picked && picked.arrows || [];
    view.stats.arrows = all.length;
    view.visible = all.length < 4000 ? all : [];
    g.globalAlpha = all.length > 1500 ? 0.35 : all.length > 300 ? 0.6 : 0.9;
    for (const a of all) {
        if (!shown[a.kind]) continue;
        const x = X(a.t1), key = a.kind + ',' + a.cpu1 + ',' + a.cpu2 + ',' + a.d1 + ',' + a.d2 + ',' + (x >> 1) + ',' + (X(a.t2) >> 1);
        if (seen.has(key)) continue; // the same pixels
        seen.add(key);
        view.stats.arrowsDrawn++;
        arrowDraw(a, false);
    }
    g.globalAlpha = 1;
    for (const a of mine) if (shown[a.kind]) arrowDraw(a, true);
    if (hovered && hovered.kind !== undefined && hovered.from) arrowDraw(hovered, true);
}

function axisDraw() {
    g.font = '11px system-ui, "DejaVu Sans", sans-serif';
    const perPixel = 1 / view.scale, wanted = 110 * perPixel, power = Math.pow(10, Math.floor(Math.log10(wanted)));
    const step = [1, 2, 5, 10].map(m => m * power).find(s => s >= wanted);
    g.fillStyle = colours.bg;
    g.fillRect(0, MAP, view.width, AXIS);
    const inBreak = t => breaks.some(([a, b]) => t > a && t < b);
    const label = t => END > 200000 && step >= 1000 ? (t / 10000).toFixed(step >= 10000 ? 0 : 1) + ' ms' : (t / 10).toFixed(step < 10 ? 1 : 0) + ' µs';
    let last = -100, t = Math.ceil(timeAt(GUTTER) / step) * step;
    for (let n = 0; n < 400 && t <= timeAt(view.width); n++, t += step) {
        const skip = breaks.find(([a, b]) => t > a && t < b);
        if (skip) { t = Math.floor(skip[1] / step) * step; continue; }
        const x = X(t);
        if (x - last < 60) continue;
        last = x;
        g.fillStyle = colours.line;
        g.fillRect(Math.round(x), MAP + AXIS - 6, 1, view.height);
        g.fillStyle = colours.muted;
        g.fillText(label(t), x + 4, MAP + AXIS - 9);
    }
    for (const [a, b] of breaks) { // squeezed time
        const x1 = X(a), x2 = X(b);
        if (x2 < GUTTER || x1 > view.width || inBreak(a)) continue;
        g.globalAlpha = 0.5;
        g.fillStyle = colours.idle;
        g.fillRect(x1, MAP + AXIS, x2 - x1, view.height);
        g.globalAlpha = 1;
        g.fillStyle = colours.muted;
        const text = '⋯ ' + ((b - a) / 10000 >= 1 ? ((b - a) / 10000).toFixed(1) + ' ms' : us(b - a) + ' µs');
        if (x2 - x1 > 70) g.fillText(text, x1 + (x2 - x1) / 2 - g.measureText(text).width / 2, view.height - 8);
    }
}

// The whole run in a strip: busy time per CPU as a curve, failures and hits as marks, the view as a frame.
let mapCache = null;
function mapDraw() {
    const w = view.width - GUTTER, length = axisLength();
    if (!mapCache || mapCache.w !== w || mapCache.length !== length) {
        const busy = new Float32Array(Math.max(1, Math.ceil(w)));
        for (const lane of L)
            for (const s of lane.segs)
                if (s.state === USER || s.state === KERNEL || s.state === GUEST) {
                    const a = toAxis(s.t) / length * w, b = toAxis(s.end) / length * w;
                    for (let p = Math.floor(a); p <= Math.min(b, w - 1); p++) busy[p] += Math.min(b, p + 1) - Math.max(a, p);
                }
        mapCache = {w, length, busy};
    }
    g.fillStyle = colours.panel;
    g.fillRect(0, 0, view.width, MAP);
    g.fillStyle = colours.kernel;
    for (let p = 0; p < w; p++) { const h = mapCache.busy[p] / D.cpus * (MAP - 8); g.fillRect(GUTTER + p, MAP - 2 - h, 1, h); }
    g.fillStyle = colours.hit;
    for (const e of hits) g.fillRect(GUTTER + toAxis(e.t) / length * w - 1, 2, 2, MAP - 4);
    g.fillStyle = colours.bad;
    for (const e of FAILURES) g.fillRect(GUTTER + toAxis(e.t) / length * w - 1, 1, 3, MAP - 2);
    const x1 = GUTTER + Math.max(0, view.at / length * w), x2 = GUTTER + Math.min(w, (view.at + w / view.scale) / length * w);
    g.strokeStyle = colours.accent;
    g.lineWidth = 1.5;
    g.fillStyle = colours.accent;
    g.globalAlpha = 0.12;
    g.fillRect(x1, 1, x2 - x1, MAP - 2);
    g.globalAlpha = 1;
    g.strokeRect(x1 + 0.75, 1, Math.max(x2 - x1 - 1.5, 3), MAP - 2);
    g.fillStyle = colours.line;
    g.fillRect(0, MAP - 0.5, view.width, 1);
}

function gutterDraw() {
    g.fillStyle = colours.panel;
    g.fillRect(0, 0, GUTTER - 8, view.height);
    g.fillStyle = colours.line;
    g.fillRect(GUTTER - 8, 0, 1, view.height);
    for (const lane of L) {
        const y = laneY(lane.cpu);
        if (y + lane.height < AXIS + MAP || y > view.height) continue;
        g.fillStyle = colours.text;
        g.font = '600 13px system-ui, "DejaVu Sans", sans-serif';
        const low = lane.height < 68; // no room for more than the number
        g.fillText('CPU ' + lane.cpu, 12, low ? y + lane.height / 2 : Math.max(y + 16, Math.min(y + lane.height / 2, baseY(lane.cpu) - 12)));
        if (low) continue;
        g.font = '9px system-ui, "DejaVu Sans", sans-serif';
        g.fillStyle = colours.muted;
        g.textAlign = 'right';
        g.fillText('kernel', GUTTER - 12, baseY(lane.cpu) + KERNEL_H / 2);
        g.fillText('pays', GUTTER - 12, baseY(lane.cpu) + KERNEL_H + PAY_H + 2);
        g.textAlign = 'left';
    }
    const room = view.height - AXIS - MAP;
    if (view.total > room + 1) { // more lanes than fit
        g.fillStyle = colours.kernel;
        g.beginPath();
        g.roundRect(view.width - 7, MAP + AXIS + view.y / view.total * room, 5, room / view.total * room, 2.5);
        g.fill();
    }
    g.fillStyle = colours.panel;
    g.fillRect(0, 0, GUTTER - 8, MAP + AXIS);
    g.fillStyle = colours.muted;
    g.font = '11px system-ui, "DejaVu Sans", sans-serif';
    g.fillText('all', 12, MAP / 2);
    g.fillText('time', 12, MAP + AXIS / 2);
}

function draw() {
    const ratio = window.devicePixelRatio || 1;
    g.setTransform(ratio, 0, 0, ratio, 0, 0);
    g.textBaseline = 'middle';
    view.stats = {lanes: 0, segs: 0, arrows: 0, arrowsDrawn: 0};
    g.fillStyle = colours.bg;
    g.fillRect(0, 0, view.width, view.height);
    g.font = '11px system-ui, "DejaVu Sans", sans-serif';
    L.filter(lane => !laneHidden(lane)).forEach(bandDraw);
    axisDraw();
    g.save();
    g.beginPath();
    g.rect(0, MAP + AXIS, view.width, view.height);
    g.clip();
    L.forEach(laneDraw);
    if (picked) { g.fillStyle = colours.accent; g.fillRect(X(picked.t) - 0.5, MAP + AXIS, 1, view.height); }
    arrowsDraw();
    g.restore();
    g.textBaseline = 'middle';
    mapDraw();
    gutterDraw();
}
