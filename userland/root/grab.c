/* The kernel gives root its possessions through delegations that root sends to itself with the H bit (docs/abi.md sections 2, 7, 8).
 * The receiver is a local thread of root whose portal does nothing but answer. */
#include "root.h"

#include "log.h"

static struct {
    uint8_t stack[0x2000] __attribute__((aligned(64)));
    struct thread thread;
    struct portal portal;
    sel_t pt;
    uint64_t utcb;
} grab;

void portal_entry(void);

static void grab_answer(void *arg, struct abi_utcb *utcb) {
    (void)arg;
    utcb->items = 0;
}

void grab_init(void) {
    uint64_t *frame = (uint64_t *)(grab.stack + sizeof grab.stack - 64);
    sel_t ec = sel_alloc(0);

    grab.pt = sel_alloc(0);
    grab.utcb = va_alloc(4096, 4096);
    grab.thread = (struct thread){.self = (uint64_t)&grab.thread, .canary = thread_self()->canary, .name = "grab"};
    grab.thread.utcb = (struct abi_utcb *)grab.utcb;
    grab.thread.ec = ec;
    frame[0] = (uint64_t)&grab.thread;
    frame[1] = grab.utcb;
    if (nova_create_ec(ec, rt.pd, grab.utcb, root.boot_cpu, (uint64_t)frame, 0, false) != NOVA_SUCCESS ||
        portal_create(&grab.portal, grab.pt, &grab.thread, 0, grab_answer, NULL) != NOVA_SUCCESS)
        panic("cannot create the thread that receives root's possessions");
}

static bool grab_send(struct msg *m, uint64_t window) {
    msg_window_delegate(grab.thread.utcb, window);
    return msg_end(m) && nova_call(grab.pt) == NOVA_SUCCESS;
}

void grab_ports(void) {
    struct msg m;

    msg_begin(&m, thread_utcb());
    msg_add_delegate(&m, CRD_MAKE(CRD_PIO, 0, 16, PERM_PIO_A), 0, ITEM_H);
    if (!grab_send(&m, CRD_MAKE(CRD_PIO, 0, 16, PERM_PIO_A)))
        panic("the kernel gives no ports");
}

bool grab_memory(uint64_t page, uint64_t pages) {
    uint64_t window = crd_mem(ROOT_PHYS_VA >> 12, CRD_ORDER_MAX, PERM_MEM_ALL);

    while (pages) {
        struct msg m;
        uint64_t done = 0;

        /* Sender: the physical page; receiver: the page in the window at ROOT_PHYS_VA, named by the hotspot. */
        msg_begin(&m, thread_utcb());
        done = msg_add_pages(&m, page, page, pages, PERM_MEM_ALL, ITEM_H | ITEM_N);
        if (!grab_send(&m, window))
            return false;
        page += done;
        pages -= done;
    }
    return true;
}

bool grab_object(uint64_t kernel_sel, sel_t sel, uint32_t perm) {
    struct msg m;

    msg_begin(&m, thread_utcb());
    msg_add_delegate(&m, crd_obj(kernel_sel, 0, perm), 0, ITEM_H);
    return grab_send(&m, crd_obj(sel, 0, CRD_PERM_ANY));
}

bool phys_map(uint64_t pa, uint64_t len) {
    uint64_t first = pa >> 12;
    uint64_t last = (pa + len - 1) >> 12;

    if (!len || pa + len < pa || pa + len > ROOT_PHYS_MAX || !grab_memory(first, last - first + 1))
        return false;
    for (uint64_t page = first; page <= last; page++) { /* the kernel keeps some pages to itself: never touch those */
        uint64_t crd = crd_mem((ROOT_PHYS_VA >> 12) + page, 0, 0);

        if (nova_lookup(&crd) != NOVA_SUCCESS || CRD_TYPE(crd) != CRD_MEM || !(CRD_PERM(crd) & PERM_MEM_R))
            return false;
        uint64_t node_end = CRD_BASE(crd) - (ROOT_PHYS_VA >> 12) + (1ul << CRD_ORDER(crd));

        if (node_end > page + 1)
            page = node_end - 1;
    }
    return true;
}
