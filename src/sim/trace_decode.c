/* What a hypercall, an exception or a status says, as text. */
#include "sim/trace_priv.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static u64 start_time;

double trace_us(u64 tsc) {
    if (!start_time)
        start_time = sim_now;
    return tsc < start_time ? 0 : (double)(tsc - start_time) / (SIM_TSC_KHZ / 1000.0);
}

const char *trace_status(u64 status) {
    static const char *const names[] = {"SUCCESS", "TIMEOUT", "ABORTED", "BAD_HYP", "BAD_CAP",
                                        "BAD_PAR", "BAD_FTR", "BAD_CPU", "BAD_DEV", "BAD_MEM"};
    return status < ARRAY_SIZE(names) ? names[status] : "an unknown status";
}

const char *trace_code(u64 rip) {
    static char text[80];
    u64 offset;
    const char *name = sim_symbol(rip, &offset);
    if (!name)
        return "an address";
    snprintf(text, sizeof(text), offset ? "%s+%lu" : "%s", name, offset);
    return text;
}

const char *trace_guest_code(u64 rip) {
    static char text[80];
    u64 offset;
    const char *name = sim_symbol(rip, &offset);
    if (!name)
        return "an address";
    snprintf(text, sizeof(text), "%s[%lu]", name, offset / sizeof(struct sim_guest_step));
    return text;
}

static const char *crd_text(u64 crd) {
    static char text[2][80];
    static unsigned next;
    char *to = text[next++ % 2];
    unsigned perm = CRD_PERM(crd), order = CRD_ORDER(crd);
    u64 base = CRD_BASE(crd);
    switch ((enum abi_crd_type)CRD_TYPE(crd)) {
    case CRD_NULL:
        return "nothing";
    case CRD_MEM:
        snprintf(to, sizeof(text[0]), "memory %lx+%lx %s%s%s", base << PAGE_SHIFT, PAGE_SIZE << order,
                 perm & PERM_MEM_R ? "r" : "-", perm & PERM_MEM_W ? "w" : "-", perm & PERM_MEM_X ? "x" : "-");
        break;
    case CRD_PIO:
        snprintf(to, sizeof(text[0]), "ports %lx+%lx", base, 1ul << order);
        break;
    case CRD_OBJ:
        snprintf(to, sizeof(text[0]), "selectors %lx+%lx perm %02x", base, 1ul << order, perm);
        break;
    }
    return to;
}

struct text {
    char *to;
    size_t room;
};
__attribute__((format(printf, 2, 3))) static void put(struct text *t, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(t->to, t->room, fmt, ap);
    va_end(ap);
    size_t used = n < 0 ? 0 : min_u64((u64)n, t->room - 1);
    t->to += used;
    t->room -= used;
}

static const char *behind(const struct ec *ec, u64 sel) { return trace_label(trace_sel(ec, sel)); }

static void put_create(struct text *t, const struct ec *ec) {
    const struct uregs *r = &ec->regs;
    unsigned number = r->rdi & 0xf;
    const char *owner = behind(ec, r->rsi);
    u64 sel = (r->rdi >> 8) % ABI_SEL_COUNT;
    u64 utcb = r->rdx & ~PAGE_MASK;
    switch (number) {
    case HC_CREATE_PD:
        put(t, "create_pd %lx in %s with %s", sel, owner, crd_text(r->rdx));
        break;
    case HC_CREATE_EC:
        put(t, "create_ec %lx in %s: %s, CPU %lu, events at %lx", sel, owner,
            !utcb                        ? "vCPU"
            : r->rdi >> 4 & HF_EC_GLOBAL ? "global thread"
                                         : "local thread",
            r->rdx & PAGE_MASK, r->r8);
        break;
    case HC_CREATE_SC:
        put(t, "create_sc %lx in %s: %s, priority %lu, %lu us", sel, owner, behind(ec, r->rdx), r->rax & 0xff,
            r->rax >> 12);
        break;
    case HC_CREATE_PT:
        put(t, "create_pt %lx in %s: %s, enters %s", sel, owner, behind(ec, r->rdx), trace_code(r->r8));
        break;
    default:
        put(t, "create_sm %lx in %s: counter %lu", sel, owner, r->rdx);
    }
}

static void put_sm_ctrl(struct text *t, const struct uregs *r, const char *what) {
    u64 deadline = r->rsi << 32 | (u32)r->rdx;
    if (!(r->rdi >> 4 & HF_SM_DOWN)) {
        put(t, "up %s", what);
        return;
    }
    put(t, "down %s%s", what, r->rdi >> 4 & HF_SM_ZERO ? " to zero" : "");
    if (deadline)
        put(t, " until %.1f", trace_us(deadline));
}

static const char *const extensions[16] = {"kmem_limit",   "kmem_usage", "kmem_free", "klog_read", "gsi_config",
                                           "cmdline_read", "counters",   "kmem_add",  "kmem_take"};

static void put_control(struct text *t, const struct ec *ec, const char *what) {
    const struct uregs *r = &ec->regs;
    switch (r->rdi & 0xf) {
    case HC_EC_CTRL:
        put(t, "recall %s", what);
        break;
    case HC_SC_CTRL:
        put(t, "time of %s", what);
        break;
    case HC_PT_CTRL:
        put(t, "pt_ctrl %s: a new id", what); /* its value is often an address */
        break;
    case HC_ASSIGN_PCI:
        put(t, "assign_pci to %s", what);
        break;
    case HC_ASSIGN_GSI:
        put(t, "assign_gsi %s to CPU %lu", what, r->rdx);
        break;
    default:
        put(t, "%s of %s", extensions[r->rdi >> 4 & 0xf] ? extensions[r->rdi >> 4 & 0xf] : "unknown extension", what);
    }
}

void trace_hypercall(char *to, size_t size, const struct ec *ec) {
    const struct uregs *r = &ec->regs;
    struct text t = {to, size};
    const char *what = behind(ec, r->rdi >> 8);
    switch (r->rdi & 0xf) {
    case HC_CALL:
        put(&t, "call %s%s", what, r->rdi >> 4 & HF_CALL_DB ? " if it is free" : "");
        break;
    case HC_REPLY:
        put(&t, "reply");
        break;
    case HC_CREATE_PD:
    case HC_CREATE_EC:
    case HC_CREATE_SC:
    case HC_CREATE_PT:
    case HC_CREATE_SM:
        put_create(&t, ec);
        break;
    case HC_REVOKE:
        put(&t, "revoke %s%s", crd_text(r->rsi), r->rdi >> 4 & HF_REVOKE_SELF ? " and its own" : "");
        break;
    case HC_LOOKUP:
        put(&t, "lookup %s", crd_text(r->rsi));
        break;
    case HC_SM_CTRL:
        put_sm_ctrl(&t, r, what);
        break;
    default:
        put_control(&t, ec, what);
    }
}

static const char *const exceptions[32] = {"#DE", "#DB", "NMI", "#BP", "#OF", "#BR", "#UD", "#NM", "#DF", NULL,
                                           "#TS", "#NP", "#SS", "#GP", "#PF", NULL,  "#MF", "#AC", "#MC", "#XM"};

void trace_exception(char *to, size_t size, const struct ec *ec, u64 addr) {
    struct text t = {to, size};
    u64 vec = ec->regs.vec % 32, err = ec->regs.err, offset;
    const char *code = sim_symbol(addr, &offset);
    put(&t, "exception %s", exceptions[vec] ? exceptions[vec] : "of a reserved number");
    if (vec == 14 && code)
        put(&t, " %s at %s", err & 0x10 ? "fetch" : err & 2 ? "write" : "read", code);
    else if (vec == 14)
        put(&t, " %s at %lx", err & 0x10 ? "fetch" : err & 2 ? "write" : "read", addr);
}

struct exit {
    u64 code;
    const char *name;
};
static const struct exit svm_exits[] = {/* APM vol 2 appendix C */
                                        {0x60, "INTR"},    {0x61, "NMI"},        {0x64, "VINTR"},
                                        {0x72, "CPUID"},   {0x78, "HLT"},        {0x7b, "I/O"},
                                        {0x7c, "MSR"},     {0x7f, "SHUTDOWN"},   {0x80, "VMRUN"},
                                        {0x8d, "XSETBV"},  {0x81, "VMMCALL"},    {0x400, "NPF"},
                                        {~0ul, "INVALID"}, {EVT_SVM_NPF, "NPF"}, {EVT_SVM_INVALID, "INVALID"},
                                        {0, NULL}};
static const struct exit vmx_exits[] =
    {/* SDM vol 3 appendix C */
     {0, "exception"}, {1, "interrupt"}, {2, "triple fault"}, {7, "interrupt window"}, {8, "NMI window"},
     {10, "CPUID"},    {12, "HLT"},      {18, "VMCALL"},      {28, "CR access"},       {30, "I/O"},
     {31, "RDMSR"},    {32, "WRMSR"},    {33, "INVALID"},     {48, "EPT violation"},   {49, "EPT misconfiguration"},
     {55, "XSETBV"},   {0, NULL}};

const char *trace_vmexit(u64 code) {
    static char text[24];
    if (sim_is_intel())
        code &= 0xffff; /* the upper half says that the entry failed */
    for (const struct exit *e = sim_is_intel() ? vmx_exits : svm_exits; e->name; e++)
        if (e->code == code)
            return e->name;
    snprintf(text, sizeof(text), "%lx", code);
    return text;
}

const char *trace_event_name(const struct ec *ec, unsigned number) {
    static char text[24];
    bool vcpu = ec->kind == EC_VCPU;
    if (number == (vcpu ? EVT_VCPU_STARTUP : EVT_THREAD_STARTUP))
        return "STARTUP";
    if (number == (vcpu ? EVT_VCPU_RECALL : EVT_THREAD_RECALL))
        return "RECALL";
    if (vcpu)
        return trace_vmexit(number);
    if (number < 32 && exceptions[number])
        return exceptions[number];
    snprintf(text, sizeof(text), "%x", number);
    return text;
}
