#include "core/heap.h"
#include "arch/assert.h"

/* Two heaps become one: the later root turns into the first child of the earlier one. */
static struct timeout *meld(struct timeout *a, struct timeout *b) {
    if (!a || !b)
        return a ? a : b;
    if (b->deadline < a->deadline) {
        struct timeout *t = a;
        a = b;
        b = t;
    }
    b->next = a->child;
    if (b->next)
        b->next->prev = b;
    b->prev = a;
    a->child = b;
    a->next = a->prev = NULL;
    return a;
}

/* Standard two passes: pairs from the left, then all of them from the right. */
static struct timeout *meld_list(struct timeout *first) {
    struct timeout *pairs = NULL;
    while (first) {
        struct timeout *a = first, *b = a->next;
        first = b ? b->next : NULL;
        a->next = a->prev = NULL;
        a = meld(a, b);
        a->next = pairs;
        pairs = a;
    }
    struct timeout *top = NULL;
    while (pairs) {
        struct timeout *t = pairs;
        pairs = t->next;
        t->next = NULL;
        top = meld(top, t);
    }
    return top;
}

void timeout_arm(struct timeout_heap *h, struct timeout *t, u64 deadline) {
    assert(!t->armed);
    *t = (struct timeout){.deadline = deadline, .armed = true};
    h->top = meld(h->top, t);
}

void timeout_remove(struct timeout_heap *h, struct timeout *t) {
    t->armed = false;
    struct timeout *rest = meld_list(t->child);
    if (t == h->top) {
        h->top = rest;
        return;
    }
    if (t->prev->child == t)
        t->prev->child = t->next;
    else
        t->prev->next = t->next;
    if (t->next)
        t->next->prev = t->prev;
    h->top = meld(h->top, rest);
}
