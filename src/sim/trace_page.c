/* The page: what was recorded goes as numbers into the document of src/sim/page, whose script draws it. */
#define _GNU_SOURCE
#include "sim/trace_priv.h"
#include "arch/assert.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define TEXT_HASH   65536u
#define EVENTS_MOST 400000u /* a page that a browser still likes */

extern const char sim_page_head[], sim_page_tail[], sim_page_end[]; /* page.S */

struct list {
    void *item;
    u32 count, room;
};
static struct list event_list, seg_list, arrow_list, text_list;
static u32 text_hash[TEXT_HASH]; /* index + 1 */
static u32 cut;                  /* events that found no room */

static void *list_add(struct list *l, size_t size) {
    if (l->count == l->room) {
        l->room = l->room ? 2 * l->room : 1024;
        l->item = realloc(l->item, l->room * size);
        assert(l->item);
    }
    return (char *)l->item + l->count++ * size;
}

/* The same text is kept once. */
static u32 text_add(const char *text) {
    u64 h = 0xcbf29ce484222325ul;
    for (const char *p = text; *p; p++)
        h = (h ^ (u8)*p) * 0x100000001b3ul;
    const char **texts = text_list.item;
    u32 i = (u32)(h % TEXT_HASH);
    for (unsigned tries = 0; tries < 64 && text_hash[i]; tries++, i = (i + 1) % TEXT_HASH)
        if (!strcmp(texts[text_hash[i] - 1], text))
            return text_hash[i] - 1;
    *(const char **)list_add(&text_list, sizeof(char *)) = strdup(text);
    text_hash[i] = text_list.count;
    return text_list.count - 1;
}

void trace_page_event(const struct trace_event *e, const char *text) {
    if (event_list.count >= EVENTS_MOST && e->kind != EV_FAIL && e->kind != EV_END) {
        cut++;
        return;
    }
    struct trace_event *mine = list_add(&event_list, sizeof(*mine));
    *mine = *e;
    mine->text = text_add(text);
}

u32 trace_page_arrow(const struct trace_arrow *a) {
    if (cut)
        return NO_FLOW;
    *(struct trace_arrow *)list_add(&arrow_list, sizeof(*a)) = *a;
    return arrow_list.count - 1;
}

void trace_page_arrow_end(u32 arrow, u32 event) {
    if (!cut)
        ((struct trace_arrow *)arrow_list.item)[arrow].to = event;
}

void trace_page_seg(const struct trace_seg *s) {
    if (!cut)
        *(struct trace_seg *)list_add(&seg_list, sizeof(*s)) = *s;
}

/* JSON that may also stand in a script element. */
static void string_write(FILE *f, const char *s) {
    fputc('"', f);
    for (; *s; s++)
        if (*s == '"' || *s == '\\' || *s == '<' || (u8)*s < ' ')
            fprintf(f, "\\u%04x", (u8)*s);
        else
            fputc(*s, f);
    fputc('"', f);
}

static u64 tenths(u64 tsc) { return (u64)(trace_us(tsc) * 10 + 0.5); }

static void data_write(FILE *f, const struct trace_meta *m) {
    fprintf(f, "{\"name\":");
    string_write(f, m->name);
    fprintf(f, ",\"commit\":");
    string_write(f, m->commit);
    fprintf(f, ",\"result\":");
    string_write(f, m->result);
    fprintf(f, ",\"machine\":\"%s\"", trace_machine());
    fprintf(f, ",\"good\":%d,\"failures\":%u,\"seed\":\"%lu\",\"cpus\":%u,\"hash\":\"%016lx\",\"cut\":%u,\"end\":%lu",
            m->good, m->failures, sim_opt.seed, sim_opt.cpus, sim_hash(), cut, tenths(sim_now));
    fprintf(f, ",\n\"texts\":[");
    for (u32 i = 0; i < text_list.count; i++) {
        fputs(i ? ",\n" : "", f);
        string_write(f, ((const char **)text_list.item)[i]);
    }
    fprintf(f, "],\n\"events\":["); /* time cpu kind ec depth text */
    const struct trace_event *e = event_list.item;
    for (u32 i = 0; i < event_list.count; i++, e++)
        fprintf(f, "%s%lu,%u,%u,%u,%u,%u", i ? "," : "", tenths(e->time), e->cpu, e->kind, e->ec, e->depth, e->text);
    fprintf(f, "],\n\"segs\":["); /* time cpu state ec payer depth */
    const struct trace_seg *s = seg_list.item;
    for (u32 i = 0; i < seg_list.count; i++, s++)
        fprintf(f, "%s%lu,%u,%u,%u,%u,%u", i ? "," : "", tenths(s->time), s->cpu, s->state, s->ec, s->payer, s->depth);
    fprintf(f, "],\n\"arrows\":["); /* kind from to cpu d1 d2; to -1: never came */
    const struct trace_arrow *a = arrow_list.item;
    for (u32 i = 0; i < arrow_list.count; i++, a++)
        fprintf(f, "%s%u,%u,%d,%u,%u,%u", i ? "," : "", a->kind, a->from, (i32)a->to, a->to_cpu, a->d1, a->d2);
    fprintf(f, "],\n\"ecs\":{");
    bool first = true;
    for (const struct trace_obj *o = trace_ecs_ever; o; o = o->ever_next, first = false) {
        fprintf(f, "%s\"%u\":", first ? "" : ",", o->number);
        string_write(f, o->name ? o->name : "");
    }
    fprintf(f, "}}");
}

const char *trace_page_write(const struct trace_meta *m) {
    static char path[512];
    const char *dir = getenv("TRACE_DIR");
    if (!dir) {
        dir = "build/trace";
        (void)mkdir("build", 0777);
    }
    snprintf(path, sizeof(path), "%s/%s-%lu.html", dir, m->name, sim_opt.seed);
    FILE *f = mkdir(dir, 0777) && errno != EEXIST ? NULL : fopen(path, "w");
    if (!f) {
        fprintf(stderr, "trace: %s: %s\n", path, strerror(errno));
        return NULL;
    }
    fwrite(sim_page_head, 1, (size_t)(sim_page_tail - sim_page_head), f);
    data_write(f, m);
    fwrite(sim_page_tail, 1, (size_t)(sim_page_end - sim_page_tail), f);
    return fclose(f) ? NULL : path;
}
