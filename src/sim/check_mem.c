/* Every piece of kernel memory has one owner, every reference is counted, every account adds up. */
#include "arch/assert.h"
#include "arch/mem.h"
#include "core/ec.h"
#include "core/pt.h"
#include "core/sc.h"
#include "core/sm.h"
#include "core/space_priv.h"
#include "sim/check.h"

#define WORDS 512u

static u64 boot_charged;   /* kernel_account: once root runs, only context tables are added */
static u64 kernel_charged; /* what kernel_pd's account should have: it is no allocation */
static u32 kernel_refs;

/* --- claims: memory that belongs to `pd` --- */

static void charge(const struct pd *pd, u64 bytes) {
    if (pd == &kernel_pd)
        kernel_charged += bytes;
    for (; pd != &kernel_pd; pd = pd->obj.owner) { /* it, and everyone who owns it */
        assert(sim_alloc_at(pd));
        sim_alloc_at(pd)->charged += bytes;
    }
}

static void claim(const struct pd *pd, const void *p, size_t size) {
    struct sim_alloc *a = sim_alloc_at(p);
    assert(a && !a->claimed && a->size >= size); /* allocated, and nobody else's */
    a->claimed = true;
    charge(pd, a->size);
}

static void claim_pages(const struct pd *pd, const void *p, unsigned order) {
    if (!p)
        return;
    assert(sim_alloc_at(p) && sim_alloc_at(p)->size == PAGE_SIZE << order);
    claim(pd, p, PAGE_SIZE << order);
}

static void claim_table(const struct pd *pd, paddr_t table, unsigned level) {
    const u64 *entries = arch_phys_ptr(table);
    claim_pages(pd, entries, 0);
    for (unsigned i = 0; level && i < WORDS; i++)
        if (entries[i] && !(entries[i] & 0x80))
            claim_table(pd, PADDR(entries[i] & 0x000ffffffffff000ul), level - 1);
}

static void claim_objtab(const struct pd *pd) {
    const union objtab_page *root = pd->objtab.root;
    if (root == &objtab_empty[2])
        return;
    claim_pages(pd, root, 0);
    for (unsigned i = 0; i < WORDS; i++) {
        const union objtab_page *mid = root->below[i];
        claim_pages(pd, mid != &objtab_empty[1] ? mid : NULL, 0);
        for (unsigned j = 0; mid != &objtab_empty[1] && j < WORDS; j++)
            claim_pages(pd, mid->below[j] != &objtab_empty[0] ? mid->below[j] : NULL, 0);
    }
}

static void claim_of_pd(const struct pd *pd) {
    const struct ptab *tables[] = {&pd->host, &pd->guest, &pd->dma};
    for (unsigned i = 0; i < ARRAY_SIZE(tables); i++)
        if (tables[i]->root.v)
            claim_table(pd, tables[i]->root, sim_table_level(tables[i]));
    claim_objtab(pd);
    claim_pages(pd, pd->pio_bitmap, 1);
    claim_pages(pd, pd->guest_pio_bitmap, 2);
}

static void claim_of_ec(const struct ec *ec) {
    claim_pages(ec->pd, ec->utcb, 0);
    if (ec->fpu)
        claim(ec->pd, ec->fpu, arch_fpu_size);
    if (ec->vcpu) {
        struct sim_vcpu v = sim_vcpu_of(ec);
        claim(ec->pd, ec->vcpu, v.size);
        claim_pages(ec->pd, v.pages, v.order);
    }
}

static u64 context_bytes;
static void claim_context(const void *table) {
    struct sim_alloc *a = sim_alloc_at(table);
    assert(a && !a->claimed && !a->boot && a->size == PAGE_SIZE);
    a->claimed = true;
    context_bytes += PAGE_SIZE;
}

/* --- references --- */

static void link_to(const struct kobj *o) {
    struct sim_alloc *a = sim_alloc_at(o);
    if (o != &kernel_pd.obj)
        assert(a && sim_alloc_kobj(a) == o); /* no link leads to freed memory */
    ++*(a ? &a->refs : &kernel_refs);
}

/* What an object holds, and what is held for ever: idle ECs by the kernel itself, which has capabilities to idle SCs and interrupts' semaphores. */
static void links_of(const struct sim_alloc *a, const struct kobj *o) {
    const struct ec *ec = sim_alloc_ec(a);
    const struct sc *sc = sim_alloc_sc(a);
    const struct pt *pt = sim_alloc_pt(a);
    link_to(&o->owner->obj);
    if (ec && ec->pending)
        link_to(ec->pending);
    if (sc)
        link_to(&sc->ec->obj);
    if (pt)
        link_to(&pt->ec->obj);
    if (ec && ec->kind == EC_IDLE)
        link_to(o);
}

static void capability_of(const struct node *n) {
    struct kobj *o = n->perm ? node_object(n) : NULL;
    if (!o)
        return;
    if (o == &kernel_pd.obj || !sim_alloc_at(o)->caps++)
        link_to(o); /* one for all of its capabilities */
}

/* Callbacks that RCU has not run yet: their memory is unreachable but not lost. */
static void rcu_mark(const struct rcu_head *h) {
    for (; h; h = h->next) {
        const size_t at[] = {offsetof(struct kobj, rcu), offsetof(struct node, rcu)};
        struct sim_alloc *a = sim_alloc_at((const char *)h - at[0]);
        if (!a || !sim_alloc_kobj(a))
            a = sim_alloc_at((const char *)h - at[1]);
        assert(a && !a->pending); /* live memory, once in all lists */
        a->pending = true;
    }
}

static void object_check(const struct sim_alloc *a, const struct kobj *o) {
    assert(o->refs == a->refs && o->caps == a->caps);
    const struct ec *ec = sim_alloc_ec(a);
    const struct sc *sc = sim_alloc_sc(a);
    const struct pd *pd = sim_alloc_pd(a);
    /* A caller whose donated SC drives a server is shut down at the reply. */
    bool leaving =
        (ec && (ec->work.queued || (ec->hazard & EC_HZ_KILL && !ec->gone))) || (sc && (sc->drop.queued || sc->dying));
    assert(o->refs ? !a->pending
                   : a->pending || leaving);          /* without references it is on its way, with them it is not */
    assert(!pd || !o->refs || !o->dead == !!o->caps); /* a PD lives as long as a capability to it */
}

/* --- kernel memory --- */

struct slab_head { /* as kmem.c lays it out at the start of a slab's pages */
    void *next, *prev, *free;
    u32 used;
};

/* The slab that a piece of memory lies in: of its pages, the block that begins at or before it. */
static struct sim_alloc *slab_of(const struct sim_alloc *a) {
    for (unsigned order = 0; order <= 3; order++) {
        struct sim_alloc *block = sim_alloc_at((void *)((u64)a->p & ~((PAGE_SIZE << order) - 1)));
        if (block && block->p != a->p && block->size == PAGE_SIZE << order)
            return block;
    }
    assert(!"an object outside of any slab");
    return NULL;
}

/* Objects of each slab, counted in `caps`. */
static void slabs_count(void) {
    SIM_EACH (a)
        if (a->size % PAGE_SIZE) {
            struct sim_alloc *slab = slab_of(a);
            assert(!slab->caps == !slab->claimed);
            slab->caps++;
            slab->claimed = true;
        }
}

struct pool_head { /* of kmem.c, in the pages before those that it describes */
    void *next;
    u64 first, end;
};

static bool is_pool_head(const struct sim_alloc *a) {
    const struct pool_head *h = a->p;
    return h->first == (arch_ptr_phys(a->p).v + a->size) >> PAGE_SHIFT && h->end > h->first;
}

/* Slabs know how many objects they have, one without any is kept at most once per cache; no page is lost. */
static void blocks_check(void) {
    u64 pages = 0;
    unsigned empty = 0;
    slabs_count();
    SIM_EACH (a) {
        if (a->size % PAGE_SIZE)
            continue;
        const struct slab_head *s = a->p;
        pages += a->size / PAGE_SIZE;
        if (a->caps)
            assert(s->used == a->caps);
        else if (!a->claimed && is_pool_head(a))
            pages -= a->size / PAGE_SIZE;   /* the pool does not count its own */
        else if (!a->claimed && !a->boot) { /* then it must be an empty slab (which counts as free), or it is lost */
            assert(s->used == 0 && s->free > a->p && s->free < (void *)((char *)a->p + a->size) && ++empty < 10);
            pages -= a->size / PAGE_SIZE;
        }
    }
    assert(pages + kmem_pages_available() == kmem_pages_total());
}

/* What the kernel PD can delegate is not kernel memory: a block in there was given back to root. If it is still in use its owner's
 * claim fails. */
static void given_back_forget(void) {
    for (u32 i = sim_alloc_count; i-- > 0;) {
        const struct sim_alloc *a = &sim_allocs[i];
        u64 pfn = arch_ptr_phys(a->p).v >> PAGE_SHIFT;
        const struct node *n = a->size % PAGE_SIZE ? NULL : space_index_from(&kernel_pd.mem, pfn);
        if (n && n->base < pfn + a->size / PAGE_SIZE)
            sim_alloc_off(a->p, a->size);
    }
}

/* Everything in PDs comes from the kernel PD, but for what hypercalls and the boot make. A mapping of kernel memory is a UTCB, or a page
 * of the kernel's image for root: code and data of its ELF file, the HIP (read only). */
static void source_check(const struct node *n) {
    if (n->type == CRD_OBJ || !n->perm || n->pd == &kernel_pd)
        return;
    const struct node *top = n;
    while (top->parent)
        top = top->parent;
    if (n->type == CRD_PIO) {
        assert(top->pd == &kernel_pd);
        return;
    }
    struct sim_alloc *page = sim_alloc_at(arch_phys_ptr(PADDR(n->source << PAGE_SHIFT)));
    if (n->tables & NODE_UTCB) {
        assert(!n->parent && !n->child && !n->order && !(n->perm & PERM_MEM_X) && n->tables == (NODE_HOST | NODE_UTCB));
        assert(page && page->claimed); /* its EC is still there */
    } else if (top->tables & NODE_FIXED) {
        assert(top->base != ABI_HIP_ADDR >> PAGE_SHIFT || n->perm == PERM_MEM_R);
    } else {
        assert(!page &&
               top->pd == &kernel_pd); /* memory comes from the kernel PD, which has none of the kernel's own */
    }
}

/* Counters to zero, then every reference and capability is counted. */
static void references_count(void) {
    kernel_charged = kernel_refs = 0;
    SIM_EACH (a)
        a->refs = a->caps = 0, a->charged = 0, a->claimed = a->pending = false;
    link_to(&kernel_pd.obj);
    SIM_EACH (a) {
        const struct node *n = sim_alloc_node(a);
        const struct kobj *o = n ? NULL : sim_alloc_kobj(a);
        if (n)
            capability_of(n);
        if (o)
            links_of(a, o);
    }
    for (unsigned i = 0; i < sim_opt.cpus; i++) {
        const struct cpu *c = &sim_cpus[i];
        rcu_mark(c->rcu.next);
        rcu_mark(c->rcu.wait);
        for (const struct pd *pd = c->reap; pd; pd = pd->reap_next)
            link_to(&pd->obj);
        for (const struct ec *ec = c->reap_ecs; ec; ec = ec->sm_next) {
            assert(ec->gone && !sim_alloc_at(ec)->pending);
            sim_alloc_at(ec)->pending = true;
        }
    }
}

/* Then every piece of memory gets its owner, and every account what it has to pay. */
static void owners_count(void) {
    context_bytes = 0;
    sim_contexts_each(claim_context);
    claim_of_pd(&kernel_pd);
    SIM_EACH (a) {
        const struct node *n = sim_alloc_node(a);
        const struct kobj *o = n ? NULL : sim_alloc_kobj(a);
        if (n && n->perm)
            charge(n->pd, a->size);
        if (o)
            charge(o->owner, a->size);
        if (o && o->type == KOBJ_PD)
            claim_of_pd(sim_alloc_pd(a));
        if (o && o->type == KOBJ_EC)
            claim_of_ec(sim_alloc_ec(a));
    }
}

void sim_check_references(void) {
    references_count();
    SIM_EACH (a) {
        const struct node *n = sim_alloc_node(a);
        const struct kobj *o = n ? NULL : sim_alloc_kobj(a);
        assert(!n || !n->perm == a->pending); /* gone and waiting for RCU, or neither */
        if (o)
            object_check(a, o);
    }
    assert(kernel_pd.obj.refs == kernel_refs);
}

static u64 nodes_below(const struct node *n) { return n ? 1 + nodes_below(n->left) + nodes_below(n->right) : 0; }
static u64 nodes_of(const struct pd *pd) {
    return nodes_below(pd->mem.root) + nodes_below(pd->pio.root) + pd->caps.objects;
}

void sim_check_memory(void) {
    u64 live = 0, listed = nodes_of(&kernel_pd);
    given_back_forget();
    sim_check_references();
    owners_count();
    SIM_EACH (a) {
        const struct node *n = sim_alloc_node(a);
        const struct pd *pd = sim_alloc_pd(a);
        assert(!pd || pd->account.used == a->charged);
        listed += pd ? nodes_of(pd) : 0;
        live += n && n->perm;
        if (n)
            source_check(n);
    }
    blocks_check();
    assert(kernel_pd.account.used == kernel_charged && kernel_account.used == boot_charged + context_bytes);
    assert(live == listed); /* every node that has permissions is in an index */
}

void sim_check_boot(void) {
    boot_charged = kernel_account.used;
    references_count();
    owners_count();
    slabs_count();
    SIM_EACH (a)
        a->boot = !a->claimed && !(a->size % PAGE_SIZE);
}
