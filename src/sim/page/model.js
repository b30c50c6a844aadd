'use strict';
// What was recorded, as arrays: events, segments of lanes, arrows; and the map from virtual time to the axis.
const D = JSON.parse(document.getElementById('data').textContent);
const KIND = ['enter', 'leave', 'call', 'reply', 'help', 'block', 'wake', 'preempt', 'interrupt', 'IPI', 'shootdown', 'object', 'guest', 'idle', 'log', 'failure', 'end'];
const FAIL = 15, STATE = ['boot', 'kernel', 'user', 'guest', 'idle', 'waits for a lock'];
const BOOT = 0, KERNEL = 1, USER = 2, GUEST = 3, IDLE = 4, LOCK = 5;
const ARROW = [
    {name: 'call', colour: ['#1b2430', '#e4e9f0'], dash: [], width: 1.3},
    {name: 'reply', colour: ['#667182', '#93a0b1'], dash: [2, 2], width: 1.2},
    {name: 'help', colour: ['#a3327c', '#e58fc1'], dash: [], width: 2.4},
    {name: 'wake-up', colour: ['#007a59', '#37c99b'], dash: [], width: 1.8},
    {name: 'IPI', colour: ['#b36b00', '#f0ad3a'], dash: [5, 3], width: 1.5},
    {name: 'shootdown', colour: ['#b34400', '#ff8a4c'], dash: [1, 3], width: 2.2},
];
// Okabe and Ito's palette, which colour-blind people can tell apart; then lighter and darker ones of the same hues.
const HUES = ['#56b4e9', '#e69f00', '#009e73', '#f0e442', '#cc79a7', '#d55e00', '#0072b2', '#a5d8f5', '#f5c767', '#66c9a8', '#e6b5cf', '#f0915a', '#6fb0dc', '#b8ad1a'];
const ecColour = ec => ec ? HUES[(ec - 1) % HUES.length] : '#9aa4b1';
const ecName = ec => ec ? ec + (D.ecs[ec] ? ' ' + D.ecs[ec] : '') : '';
const us = t => (t / 10).toFixed(1);

const E = []; // events: {t, cpu, kind, ec, depth, text, i}
for (let i = 0, a = D.events; i < a.length; i += 6)
    E.push({t: a[i], cpu: a[i + 1], kind: a[i + 2], ec: a[i + 3], depth: a[i + 4], text: D.texts[a[i + 5]], i: E.length, arrows: null});
const END = Math.max(D.end, E.length ? E[E.length - 1].t : 0, 1);

// Lanes: segments of a CPU in order, each until the next one's start.
const L = Array.from({length: D.cpus}, (_, cpu) => ({cpu, segs: [{t: 0, state: BOOT, ec: 0, payer: 0, depth: 0, end: END}], events: [], depth: 0}));
for (let i = 0, a = D.segs; i < a.length; i += 6) {
    const lane = L[a[i + 1]], last = lane.segs[lane.segs.length - 1];
    last.end = a[i];
    if (last.end === last.t && lane.segs.length > 1)
        lane.segs.pop();
    lane.segs.push({t: a[i], state: a[i + 2], ec: a[i + 3], payer: a[i + 4], depth: a[i + 5], end: END});
    if (a[i + 2] === USER || a[i + 2] === GUEST)
        lane.depth = Math.max(lane.depth, a[i + 5]);
}
for (const e of E)
    L[e.cpu].events.push(e);

// Arrows: {kind, from, to (event or null), t1, t2, cpu1, cpu2, d1, d2}
const A = [];
for (let i = 0, a = D.arrows; i < a.length; i += 6) {
    const from = E[a[i + 1]], to = a[i + 2] < 0 ? null : E[a[i + 2]];
    const arrow = {kind: a[i], from, to, t1: from.t, t2: to ? to.t : from.t, cpu1: from.cpu, cpu2: a[i + 3], d1: a[i + 4], d2: to && a[i] >= 3 ? to.depth : a[i + 5]};
    (from.arrows = from.arrows || []).push(arrow);
    if (to && to !== from)
        (to.arrows = to.arrows || []).push(arrow);
    A.push(arrow);
}
A.sort((x, y) => x.t1 - y.t1);
const FAILURES = E.filter(e => e.kind === FAIL);

// First index in a sorted array whose key is not below x.
function lowerBound(array, key, x) {
    let low = 0, high = array.length;
    while (low < high) {
        const mid = (low + high) >> 1;
        if (key(array[mid]) < x) low = mid + 1; else high = mid;
    }
    return low;
}

// Stretches in which no CPU does anything.
const quiet = (() => {
    const marks = [];
    for (const lane of L)
        for (const s of lane.segs)
            if (s.state === IDLE || s.state === BOOT)
                marks.push([s.t, 1], [s.end, -1]);
    marks.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
    const out = [];
    let idle = 0, since = 0;
    for (const [t, step] of marks) {
        if (idle === D.cpus && t > since)
            out.push([since, t]);
        idle += step;
        since = t;
    }
    return out;
})();

// The axis: knots [time, position]. Squeezed, a quiet stretch takes at most `room`.
let knots = [[0, 0], [END, END]], breaks = [];
function axisMake(squeezed) {
    const busy = END - quiet.reduce((sum, [a, b]) => sum + b - a, 0), room = Math.max(100, Math.round(busy / 50));
    knots = [[0, 0]];
    breaks = [];
    let shift = 0;
    for (const [a, b] of squeezed ? quiet : [])
        if (b - a > 2 * room) {
            knots.push([a, a - shift]);
            shift += b - a - room;
            knots.push([b, b - shift]);
            breaks.push([a, b]);
        }
    knots.push([END, END - shift]);
}
function interpolate(from, to, x) {
    const i = Math.min(Math.max(lowerBound(knots, k => k[from], x), 1), knots.length - 1), a = knots[i - 1], b = knots[i];
    return b[from] === a[from] ? b[to] : a[to] + (x - a[from]) * (b[to] - a[to]) / (b[from] - a[from]);
}
const toAxis = t => interpolate(0, 1, t), toTime = x => interpolate(1, 0, x);
const axisLength = () => knots[knots.length - 1][1];

// Search: events whose text or EC contains all words.
let hits = [], hitSet = new Set();
function search(words) {
    const want = words.toLowerCase().split(/\s+/).filter(w => w);
    const found = e => { const s = (ecName(e.ec) + ' ' + e.text + ' ' + KIND[e.kind]).toLowerCase(); return want.every(w => s.includes(w)); };
    hits = want.length ? E.filter(found) : [];
    hitSet = new Set(hits);
}
axisMake(true);
