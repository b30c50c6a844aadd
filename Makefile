# Novella: build, run and test. `make` alone prints the help. All output goes to build/.
# Sources are found by directory (src/, userland/, tests/): a new file needs no line here.

B     := build
Q      = $(if $(V),,@)
say    = @printf '  %-7s %s\n' $(1) $(2)
MAKEFLAGS += --no-builtin-rules
.SUFFIXES:
.DELETE_ON_ERROR:
.SECONDARY:
.PHONY: help run iso guest user hw sim bench-sim mutants mutants-lockstep coverage check check-full check-tsan check-hw check-format format tidy tests baseline clean distclean
.DEFAULT_GOAL := help

NEED := $(B)/.need

help:
	@echo 'make run            build everything and boot it in QEMU: GRUB image, kernel, root, VMM, Debian Linux in a VM'
	@echo '  BOOT=kernel         boot with QEMU -kernel instead of the GRUB image; CPUS=4 MEM=2G CONF=userland/conf/x.conf'
	@echo 'make check          format, tidy, unit and simulator tests under ASan and UBSan (under a minute once built)'
	@echo 'make check-full     the same, longer and with more tools (20 minutes at most)'
	@echo 'make check-tsan     the scenarios under ThreadSanitizer: data races of the kernel; SEEDS=20 of each'
	@echo 'make bench          instructions of each operation on QEMU (AMD-V) and Bochs (VT-x) against their budgets: ENGINE=qemu or bochs'
	@echo '  curves with up to SCALE=8 CPUs (64: many minutes)'
	@echo 'make profile OP=call_1    where the instructions of one operation go, by function'
	@echo 'make bench-guest    Linux boot and three workloads as a guest: instructions against the same without us, exits by reason'
	@echo 'make profile-guest WORK=boot    what kernel and components execute for it, by function: boot procs sha256 pipe'
	@echo 'make bench-sim      speed of the simulator: a table'
	@echo 'make check-hw       machine tests in QEMU and Bochs, and the matrix of both; TEST=name for one of them, TEST=list to see them'
	@echo 'make sim SCENARIO=call_test.helping_depth3 SEED=1    one scenario; TRACE=1 prints what happens, TRACE=html makes a page of it'
	@echo '  CPUS=4; an unknown name lists what there is; abi and abi.CASE work too'
	@echo 'make fuzz           byte-code programs against the kernel: SECONDS=60 SEED=n JOBS=2; fuzz-parsers, fuzz-valgrind'
	@echo 'make fuzz-edges     which kernel edges fuzzing reaches of those that the unit and simulator suites reach'
	@echo 'make iso hw user guest sim    only a part: boot image, kernel, userland, guest image, simulator'
	@echo 'make mutants       faults in the kernel that some test must find; N=400 SEED=1 ONLY=regex DIR=path'
	@echo 'make coverage      lines and branches of the kernel that the tests execute: build/coverage/index.html'
	@echo 'make format         rewrite the sources in the house format'
	@echo 'make baseline       the guest directly on QEMU, with its time to the shell'
	@echo 'make clean          remove what was built; distclean: also what was downloaded'
	@echo 'V=1 shows commands. Missing Debian packages are installed by the first build (tools/need).'

$(NEED): tools/need
	@tools/need
	@mkdir -p $(@D) && touch $@

# ---- flags ----------------------------------------------------------------------------------------------------------
WARN    := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes
DEP      = -MMD -MP
COMMON  := -std=gnu17 -g $(WARN) -fno-strict-aliasing -fno-common

HW_FLAGS := $(COMMON) -O2 -ffreestanding -fno-pic -fno-pie -mno-red-zone -mcmodel=kernel -mgeneral-regs-only -mpreferred-stack-boundary=3 \
            -fstack-protector-strong -mstack-protector-guard=global -fno-asynchronous-unwind-tables -fcf-protection=none -ffunction-sections -fdata-sections \
            -mindirect-branch=thunk-extern -mindirect-branch-register -fno-jump-tables -Isrc -Isrc/hw/inc
HW_LINK  := -nostdlib -static -no-pie -Wl,--build-id=none -Wl,-z,max-page-size=0x1000 -Wl,-z,noexecstack \
            -Wl,--gc-sections -Wl,-T,src/hw/novella.ld

SIM_SAN  := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
# hidden: the core has names that libc has too, and shared libraries must not find ours
SIM_BASE := $(COMMON) -fvisibility=hidden -fno-pie -Isrc -Isrc/sim/inc
# Away from the numbers that are physical addresses: the trace hash tells program addresses from other values.
# --wrap: what the reference model watches (src/sim/lockstep.c).
SIM_LINK := -no-pie -Wl,-Ttext-segment=0x64000000 \
            -Wl,--wrap=core_syscall,--wrap=hypercall_run,--wrap=hypercall_finish,--wrap=ipc_receive,--wrap=ipc_reply,--wrap=ipc_reply_transfer

# Not `:=`: on a fresh machine there is no gcc yet when this file is read.
USER_FLAGS = $(COMMON) -O2 -fno-pie -fstack-protector-strong -ftls-model=local-exec -fno-asynchronous-unwind-tables \
              -fcf-protection=none -ffunction-sections -fdata-sections -nostdinc -isystem /usr/include/x86_64-linux-musl \
              -isystem $(B)/third/include -isystem $(shell gcc -print-file-name=include 2>/dev/null)
USER_INC   := -Isrc -Iuserland/lib/hw -Iuserland/lib -I$(B)/user
USER_LINK  := -nostdlib -static -no-pie -Wl,--build-id=none -Wl,-z,max-page-size=0x1000 -Wl,-z,noexecstack \
              -Wl,--gc-sections -Wl,-T,userland/lib/user.ld -Wl,-u,_start
ZYDIS_DEFS := -DZYAN_NO_LIBC -DZYDIS_STATIC_BUILD -DZYDIS_DISABLE_FORMATTER -DZYDIS_DISABLE_ENCODER
MUSL       := /usr/lib/x86_64-linux-musl/libc.a

# ---- kernel for hardware --------------------------------------------------------------------------------------------
HW_SRC := $(wildcard src/core/*.c src/arch/*.c src/hw/*.c src/hw/*.S)
HW_OBJ := $(patsubst %,$(B)/hw/%.o,$(HW_SRC)) $(B)/hw/font.o
hw: $(B)/hw/novella.elf $(B)/hw/novella32.elf

$(B)/hw/%.c.o: %.c | $(NEED)
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)gcc $(HW_FLAGS) $(DEP) -c $< -o $@
$(B)/hw/%.S.o: %.S | $(NEED)
	$(call say,AS,$<)
	@mkdir -p $(@D)
	$(Q)gcc $(HW_FLAGS) -D__ASSEMBLY__ $(DEP) -c $< -o $@
# Linked twice: the second time with the table of function names for panic reports, which stands behind all text.
$(B)/hw/font.S: tools/font | $(NEED)
	@mkdir -p $(@D)
	$(Q)tools/font /usr/share/consolefonts/Lat15-Fixed16.psf.gz >$@
$(B)/hw/font.o: $(B)/hw/font.S
	$(Q)gcc -c $< -o $@
$(B)/hw/novella.elf: $(HW_OBJ) $(wildcard src/hw/novella.ld) tools/ksyms
	$(call say,LINK,$@)
	$(Q)gcc $(HW_LINK) $(HW_OBJ) -o $(B)/hw/nosyms.elf
	$(Q)tools/ksyms $(B)/hw/nosyms.elf >$(B)/hw/ksyms.S
	$(Q)gcc -c $(B)/hw/ksyms.S -o $(B)/hw/ksyms.o
	$(Q)gcc $(HW_LINK) -Wl,-Map,$(B)/hw/novella.map $(HW_OBJ) $(B)/hw/ksyms.o -o $@
$(B)/hw/novella32.elf: $(B)/hw/novella.elf
	$(Q)objcopy -S -O elf32-i386 $< $@

# ---- kernel for the simulator: under ASan and UBSan (sim), and plain for long searches (sim-fast) -------------------
SIM_SRC := $(wildcard src/core/*.c src/arch/*.c src/sim/*.c src/sim/*.S)
$(B)/sim/src/sim/page.S.o $(B)/sim-fast/src/sim/page.S.o: $(wildcard src/sim/page/*)
define sim_variant
$(B)/$(1)/%.c.o: %.c | $$(NEED)
	$$(call say,CC,"$$< ($(1))")
	@mkdir -p $$(@D)
	$$(Q)gcc $$(SIM_BASE) $(2) $$(DEP) -c $$< -o $$@
$(B)/$(1)/%.S.o: %.S | $$(NEED)
	@mkdir -p $$(@D)
	$$(Q)gcc $$(SIM_BASE) -D__ASSEMBLY__ $$(DEP) -c $$< -o $$@
$(B)/$(1)/libnovella.a: $$(patsubst %,$(B)/$(1)/%.o,$$(SIM_SRC))
	$$(call say,AR,$$@)
	@rm -f $$@
	$$(Q)ar rcs $$@ $$^
endef
$(eval $(call sim_variant,sim,-O1 $(SIM_SAN)))
$(eval $(call sim_variant,sim-fast,-O2))
# for ThreadSanitizer: the machine itself and programs are not looked at (src/sim/race.c)
TSAN_LINK := -Wl,--no-as-needed -ltsan
$(B)/sim-tsan/src/core/%.o $(B)/sim-tsan/src/arch/%.o: TSAN := -fsanitize=thread -Wno-tsan
$(B)/sim-tsan/src/sim/%.o: TSAN := -D_GNU_SOURCE= -include src/sim/race.h
$(eval $(call sim_variant,sim-tsan,-O1 -DSIM_TSAN $$(TSAN)))

# ---- userland -------------------------------------------------------------------------------------------------------
COMPS    := $(filter-out lib conf,$(notdir $(patsubst %/,%,$(wildcard userland/*/))))
LIB_SRC  := $(wildcard userland/lib/*.c userland/lib/*.S userland/lib/hw/*.c userland/lib/hw/*.S)
LIB_OBJ  := $(patsubst %,$(B)/user/%.o,$(LIB_SRC))
ABI_SRC  := $(wildcard tests/abi/*.c)
$(B)/user/tests/abi/% $(B)/user/tests/bench/%: USER_INC += -Itests/abi -Itests/abi/hw
# the measuring root task, in the interface suite's harness
BENCH_SRC := $(filter-out %/sim_bench.c,$(wildcard tests/bench/*.c)) tests/abi/harness.c $(wildcard tests/abi/hw/*.c)
user: $(patsubst %,$(B)/user/%.elf,$(COMPS)) $(if $(ABI_SRC),$(B)/user/abi.elf)

$(B)/user/%.c.o: %.c | $(NEED)
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)gcc $(USER_FLAGS) $(ZYDIS_DEFS) $(USER_INC) -I$(dir $<) $(DEP) -c $< -o $@
$(B)/user/%.S.o: %.S | $(NEED)
	$(call say,AS,$<)
	@mkdir -p $(@D)
	$(Q)gcc $(USER_FLAGS) $(USER_INC) -D__ASSEMBLY__ $(DEP) -c $< -o $@
$(B)/user/librt.a: $(LIB_OBJ)
	$(call say,AR,$@)
	@rm -f $@
	$(Q)ar rcs $@ $^

# user_program NAME, SOURCES, MORE LIBRARIES
define user_program
$(B)/user/$(1).elf: $(patsubst %,$(B)/user/%.o,$(2)) $(B)/user/librt.a $(3) $(wildcard userland/lib/user.ld) tools/check-syscall
	$$(call say,LINK,$$@)
	$$(Q)gcc $$(USER_LINK) -Wl,-Map,$$(@:.elf=.map) $$(filter %.o,$$^) -Wl,--start-group $(B)/user/librt.a $(3) $$(MUSL) -lgcc \
	    -Wl,--end-group -o $$@
	$$(Q)tools/check-syscall $$@ $$(@:.elf=.map)
endef
$(foreach c,$(COMPS),$(eval $(call user_program,$(c),$(wildcard userland/$(c)/*.c userland/$(c)/*.S),$(if $(filter vmm,$(c)),$(B)/third/libzydis.a))))
$(eval $(call user_program,abi,$(ABI_SRC) $(wildcard tests/abi/hw/*.c),))
$(eval $(call user_program,bench,$(BENCH_SRC),))
$(patsubst %,$(B)/user/%.o,$(wildcard userland/vmm/*.c)): | $(B)/third/libzydis.a

$(B)/third/libzydis.a: tools/third-zydis tools/apt-private | $(NEED)
	$(call say,THIRD,$@)
	$(Q)tools/third-zydis $(B)

# ---- guest: Debian's kernel as it is, and an initramfs with busybox ---------------------------------------------------
guest: $(B)/guest/vmlinux $(B)/guest/bzImage $(B)/guest/initrd
$(B)/guest/vmlinux: tools/guest-kernel tools/extract-vmlinux tools/apt-private | $(NEED) $(B)/third/libzydis.a
	$(call say,GUEST,"vmlinux and bzImage")
	$(Q)tools/guest-kernel $(B)
$(B)/guest/bzImage: $(B)/guest/vmlinux
	@test -e $@ && touch $@
$(B)/guest/busybox: tools/guest-busybox tools/apt-private | $(NEED) $(B)/guest/vmlinux
	$(Q)tools/guest-busybox $(B)
$(B)/guest/initrd: $(B)/guest/busybox tools/guest-initrd tools/guest/init
	$(call say,GUEST,initrd)
	$(Q)python3 tools/guest-initrd $(B)/guest/busybox tools/guest/init $@

# ---- boot directory and image ---------------------------------------------------------------------------------------
CONF ?= userland/novella.conf
CPUS ?= 4
MEM  ?= 2G
# Module names are what the configuration calls them; in build/boot the files have just these names.
MODULES := root.elf novella.conf console.elf vmm.elf guest/vmlinux guest/bzImage guest/initrd
BOOT_DEPS := $(B)/hw/novella.elf $(B)/hw/novella32.elf $(patsubst %,$(B)/user/%.elf,root console vmm) \
             $(B)/guest/vmlinux $(B)/guest/bzImage $(B)/guest/initrd $(if $(ABI_SRC),$(B)/user/abi.elf)
.PHONY: conf-changed
$(B)/boot/novella.conf: conf-changed
	@mkdir -p $(@D)
	@cmp -s $(CONF) $@ || cp $(CONF) $@
$(B)/boot/.done: $(BOOT_DEPS) tools/boot-dir
	$(Q)tools/boot-dir $(B)
	@touch $@
iso: $(B)/novella.iso
$(B)/novella.iso: $(B)/boot/.done $(B)/boot/novella.conf tools/boot-iso
	$(call say,ISO,$@)
	$(Q)tools/boot-iso $(B) $@ $(MODULES)
run: $(if $(filter kernel,$(BOOT)),$(B)/boot/.done $(B)/boot/novella.conf,$(B)/novella.iso)
	@CPUS=$(CPUS) MEM=$(MEM) tools/run $(if $(filter kernel,$(BOOT)),kernel,iso) $(B) $(MODULES)
baseline: guest
	@python3 tests/hw/baseline.py $(B) vmlinux bzImage

# ---- tests on the developer's machine ---------------------------------------------------------------------------------
UNIT_SRC := $(wildcard tests/unit/*_test.c)
SIMT_SRC := $(wildcard tests/sim/*.c)
TEST_BIN := $(patsubst tests/%.c,$(B)/check/%,$(UNIT_SRC) $(SIMT_SRC))
TEST_FAST := $(patsubst tests/%.c,$(B)/check-fast/%,$(UNIT_SRC) $(SIMT_SRC))
# without those about the simulator and those with one CPU
TEST_TSAN := $(patsubst tests/%.c,$(B)/check-tsan/%,$(filter-out $(patsubst %,tests/sim/%_test.c,help latency replay search storebuf trace),$(SIMT_SRC))) \
             $(B)/sim-tsan/abi
HOST_FLAGS := $(COMMON) $(ZYDIS_DEFS) -fno-pie $(SIM_LINK) -isystem $(B)/third/include -Isrc -Isrc/sim/inc -Iuserland/lib
LINKED_INC := -Iuserland/lib -Iuserland/vmm -Iuserland/root -Iuserland/console -I$(B)/user
ALL_SRC  := $(wildcard src/*/*.[ch] src/*/inc/mach/*.h userland/*/*.[ch] userland/lib/*/*.[ch] tests/*/*.[ch])

tests: $(TEST_BIN)
# A test that begins with "// LINK: a.c b.c ..." is linked with those sources only, any other with the whole simulator.
# "zydis" in that line adds the decoder.
define test_variant
$(B)/$(1)/%: tests/%.c $(B)/$(2)/libnovella.a $$(ALL_SRC) | $$(NEED) $(B)/third/libzydis.a
	$$(call say,TEST,$$@)
	@mkdir -p $$(@D)
	$$(Q)links="$$$$(sed -n '1,5s,^// LINK: ,,p' $$<)"; case " $$$$links " in \
	*' zydis '*) libs=$(B)/third/libzydis.a; links="$$$$(echo " $$$$links " | sed 's, zydis , ,')" ;; esac; \
	if [ -n "$$$$links" ]; then gcc $$(HOST_FLAGS) $$(LINKED_INC) $(3) $$< $$$$links $$$$libs -lcmocka -o $$@; \
	else gcc $$(HOST_FLAGS) $(3) $$< $(B)/$(2)/libnovella.a $$(SIM_LINK) -lcmocka -o $$@; fi
endef
$(eval $(call test_variant,check,sim,-O1 $(SIM_SAN)))
$(eval $(call test_variant,check-fast,sim-fast,-O2))
$(eval $(call test_variant,check-tsan,sim-tsan,-O1 -DSIM_TSAN $(TSAN_LINK)))

# The ABI tests in the simulator, once there are both.
ABI_SIM := $(if $(ABI_SRC),$(if $(wildcard src/sim/*.c),$(B)/sim/abi))
ABI_SIM_SRC := $(ABI_SRC) $(wildcard tests/abi/sim/*.c)
ABI_SIM_INC := -Itests/abi -Itests/abi/sim -Iuserland/lib
$(B)/sim/abi: $(ABI_SIM_SRC) $(B)/sim/libnovella.a $(ALL_SRC) $(wildcard tests/abi/*/*.h)
	$(call say,LINK,$@)
	$(Q)gcc $(SIM_BASE) $(SIM_SAN) -O1 $(SIM_LINK) $(ABI_SIM_INC) $(ABI_SIM_SRC) $(B)/sim/libnovella.a -o $@
$(B)/sim-fast/abi: $(ABI_SIM_SRC) $(B)/sim-fast/libnovella.a $(ALL_SRC) $(wildcard tests/abi/*/*.h)
	$(call say,LINK,$@)
	$(Q)gcc $(SIM_BASE) -O2 $(SIM_LINK) $(ABI_SIM_INC) $(ABI_SIM_SRC) $(B)/sim-fast/libnovella.a -o $@
$(B)/sim-tsan/abi: $(ABI_SIM_SRC) $(B)/sim-tsan/libnovella.a $(ALL_SRC) $(wildcard tests/abi/*/*.h)
	$(call say,LINK,$@)
	$(Q)gcc $(SIM_BASE) -O1 $(SIM_LINK) $(TSAN_LINK) $(ABI_SIM_INC) $(ABI_SIM_SRC) $(B)/sim-tsan/libnovella.a -o $@

include tests/fuzz/fuzz.mk

# `make sim`: all scenarios; with SCENARIO=name [SEED=n] [TRACE=1|html] [CPUS=n] that one.
ifdef SCENARIO
sim: | $(NEED)
	@tools/sim-scenario $(B) '$(SCENARIO)'
else
sim: $(B)/sim/libnovella.a $(patsubst tests/%.c,$(B)/check/%,$(SIMT_SRC))
	@tools/test-run $(patsubst tests/%.c,$(B)/check/%,$(SIMT_SRC))
endif

# ---- coverage, and proof that the tests can fail ----------------------------------------------------------------------
# One copy of each function: branches of an inlined one would count for each place.
COV_FLAGS := -O0 --coverage -fdata-sections -Dalways_inline=unused
COV_LINK  := -Wl,--sort-section=name,--wrap=_exit tests/coverage/exit.c
$(eval $(call sim_variant,cov,$(COV_FLAGS)))
$(eval $(call test_variant,check-cov,cov,$(COV_FLAGS) $(COV_LINK)))
$(B)/check-cov/sim/abi: $(ABI_SIM_SRC) $(B)/cov/libnovella.a $(ALL_SRC) $(wildcard tests/abi/*/*.h)
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)gcc $(SIM_BASE) $(COV_FLAGS) $(COV_LINK) $(SIM_LINK) $(ABI_SIM_INC) $(ABI_SIM_SRC) $(B)/cov/libnovella.a -o $@
TEST_COV := $(patsubst tests/%.c,$(B)/check-cov/%,$(UNIT_SRC) $(SIMT_SRC)) $(if $(ABI_SIM),$(B)/check-cov/sim/abi)

# Flags and sources as the rules above have them, for tools/mutants.
export MUT_SIM = $(SIM_BASE)
export MUT_SAN = $(SIM_SAN)
export MUT_LINK = $(SIM_LINK)
export MUT_HOST = $(HOST_FLAGS)
export MUT_LINKED = $(LINKED_INC)
export MUT_ABI_INC = $(ABI_SIM_INC)
export MUT_LIB = $(SIM_SRC)
export MUT_TESTS = $(UNIT_SRC) $(SIMT_SRC)
export MUT_ABI = $(if $(ABI_SIM),$(ABI_SIM_SRC))
export MUT_COV = $(B)/check-cov
mutants: $(TEST_COV) $(B)/third/libzydis.a $(B)/sim-fast/libnovella.a
	@nice tools/mutants $(B) $(foreach v,DIR N SEED ONLY KIND FROM JOBS STAGES,$(if $($(v)),"$(v)=$($(v))")); status=$$?; \
	$(if $(DIR)$(ONLY)$(KIND)$(FROM),,nice tools/mutants-lockstep $(B) || status=1;) exit $$status
# faults that the reference model, or the invariant walk, has to find alone; NAMES="model-x walk-y"
mutants-lockstep: $(B)/third/libzydis.a $(B)/sim-fast/libnovella.a
	@nice tools/mutants-lockstep $(B) $(NAMES)
coverage: $(TEST_COV)
	@tools/need gcovr:/usr/bin/gcovr:'make coverage'
	@nice tools/coverage $(B) $(TEST_COV)

# Instructions of each operation against tests/bench/budgets; ENGINE=qemu or bochs, else both. OP=name: where they go.
.PHONY: bench profile
BENCH_FILES := $(patsubst %,$(B)/bench/boot/%,novella.elf novella32.elf bench.elf) $(B)/bench/plugin.so
$(B)/bench/boot/novella%: $(B)/hw/novella%
	@mkdir -p $(@D) && cp $< $@
$(B)/bench/boot/bench.elf: $(B)/user/bench.elf
	@mkdir -p $(@D) && cp $< $@
$(B)/bench/plugin.so: tests/bench/plugin/plugin.c tests/bench/plugin/qemu.h | $(NEED)
	@mkdir -p $(@D)
	$(Q)gcc $(COMMON) -O2 -fPIC -shared -fvisibility=hidden $< -o $@
bench: $(BENCH_FILES)
	@tools/bench table $(B)/bench $(ENGINE); status=$$?; $(if $(filter bochs,$(ENGINE)),,tools/bench scale $(B)/bench $(SCALE) || status=1;) exit $$status
profile: $(BENCH_FILES)
	@tools/bench profile $(B)/bench '$(OP)' $(or $(ENGINE),qemu) $(if $(LIST),list)

# Guest work against the same without us: tests/bench/guestwork.py. Debian's musl as the guest's C library.
.PHONY: bench-guest profile-guest
MUSL_DIR := $(dir $(MUSL))
$(B)/bench/work: tests/bench/guest/work.c | $(NEED)
	@mkdir -p $(@D)
	$(Q)gcc -std=gnu17 -O2 $(WARN) -fno-pie -no-pie -static -nostdlib -nostdinc -isystem /usr/include/x86_64-linux-musl -isystem $$(gcc -print-file-name=include) \
	    $(MUSL_DIR)crt1.o $(MUSL_DIR)crti.o $< $(MUSL) -lgcc $(MUSL_DIR)crtn.o -s -o $@
$(B)/bench/initrd: $(B)/bench/work tests/bench/guest/work.sh $(B)/guest/busybox tools/guest-initrd tools/guest/init
	$(Q)python3 tools/guest-initrd $(B)/guest/busybox tools/guest/init $@ bin/work=$< etc/work.sh=tests/bench/guest/work.sh
$(B)/bench/count.so: tests/bench/plugin/count.c tests/bench/plugin/qemu.h | $(NEED)
	@mkdir -p $(@D)
	$(Q)gcc $(COMMON) -O2 -fPIC -shared -fvisibility=hidden $< -o $@
BENCH_GUEST := $(B)/boot/.done $(B)/bench/initrd $(B)/bench/count.so
bench-guest: $(BENCH_GUEST)
	@tools/bench guest $(B)/bench $(B)
profile-guest: $(BENCH_GUEST)
	@tools/bench guest-profile $(B)/bench $(B) '$(WORK)'

bench-sim: $(B)/check-fast/bench/sim_bench
	@$<

FORMATTED := $(wildcard src/*/*.[ch] src/*/inc/mach/*.h userland/*/*.[ch] userland/lib/*/*.[ch] tests/*/*.[ch])
check-format: | $(NEED)
	$(call say,FORMAT,"$(words $(FORMATTED)) files")
	@clang-format --dry-run -Werror $(FORMATTED) 2>&1 | grep -E 'error:|warning:' | sed 's/ code should be.*//' | cut -d: -f1 | sort | uniq -c | \
	    { awk '{ print "format: " $$2 ": " $$1 " places (make format)"; bad = 1 } END { exit bad }'; }
format: | $(NEED)
	@clang-format -i $(FORMATTED)
tidy: $(B)/hw/novella.elf
	@tools/tidy $(B)
	@tools/abi-cases

check: $(B)/hw/novella.elf $(TEST_BIN) $(ABI_SIM) $(B)/check/fuzz | $(NEED)
	@tools/test-run "@$(MAKE) -s check-format" "@$(MAKE) -s tidy" $(TEST_BIN) $(if $(ABI_SIM),"@env SEEDS=20 $(ABI_SIM)") $(if $(ABI_SIM),"@env STOREBUF=1 SEEDS=20 $(ABI_SIM)") $(FUZZ_CHECK)
# races of the kernel, SEEDS of each scenario
check-tsan: $(TEST_TSAN)
	@SEEDS=$(or $(SEEDS),20) TEST_LIMIT=900 tools/test-run $(TEST_TSAN)
check-full: check $(TEST_FAST) $(TEST_TSAN) $(TEST_COV) $(if $(ABI_SIM),$(B)/sim-fast/abi) $(B)/check-fast/fuzz user hw
	@COVERAGE="$(TEST_COV)" tools/check-full $(B) $(TEST_FAST) $(patsubst %,"@env SEEDS=5 %",$(TEST_TSAN))
check-hw: $(B)/novella.iso $(BENCH_FILES) $(BENCH_GUEST)
	@tests/hw/run --build $(B) $(TEST)

clean:
	@find $(B) -mindepth 1 -maxdepth 1 ! -name apt -exec rm -rf {} + 2>/dev/null || true
distclean:
	@rm -rf $(B)

-include $(shell find $(B)/hw $(B)/sim $(B)/sim-fast $(B)/sim-tsan $(B)/cov $(B)/fuzz $(B)/user -name '*.d' 2>/dev/null)
