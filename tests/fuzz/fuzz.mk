# Fuzzing (docs/testing.md): tests/fuzz as it is, in the Makefile's two variants of the simulator, and by clang with flags for kernel edges.
.PHONY: fuzz fuzz-valgrind fuzz-edges fuzz-parsers fuzz-afl
SECONDS ?= 60
JOBS    ?= 2
FUZZ_SRC := $(wildcard tests/fuzz/*.c)
FUZZ_USER := userland/root/config.c userland/root/acpi.c userland/vmm/loader.c userland/vmm/tables.c userland/vmm/gmem.c
FUZZ_INC := -Iuserland/vmm -Iuserland/lib
FUZZ_RUN  = -t $(SECONDS) -j $(JOBS) $(if $(SEED),-s $(SEED)) -o $(B)/fuzz/failures tests/fuzz/corpus $(wildcard $(B)/fuzz/corpus)
define fuzz_variant
$(B)/$(1)/fuzz: $(FUZZ_SRC) $(FUZZ_USER) $(B)/$(2)/libnovella.a $$(ALL_SRC)
	$$(call say,LINK,$$@)
	@mkdir -p $$(@D)
	$$(Q)gcc $$(SIM_BASE) $(FUZZ_INC) $(3) $(SIM_LINK) $(FUZZ_SRC) $(FUZZ_USER) $(B)/$(2)/libnovella.a -o $$@
endef
$(eval $(call fuzz_variant,check,sim,-O1 $(SIM_SAN)))
$(eval $(call fuzz_variant,check-fast,sim-fast,-O2))

EDGES   := -fsanitize-coverage=inline-bool-flag,pc-table
CLANG    = clang $(SIM_BASE) -O1 -fsanitize=address -fno-omit-frame-pointer -D__SANITIZE_ADDRESS__ $(FUZZ_INC)
EDGE_KERNEL := $(patsubst %,$(B)/fuzz/%.o,$(wildcard src/core/*.c src/arch/*.c))
EDGE_SIM    := $(patsubst %,$(B)/fuzz/%.o,$(wildcard src/sim/*.c src/sim/*.S))
# In this order: the kernel's flags lie between two pages of padding, tests/fuzz/edges.c
EDGE_USER   := $(patsubst %,$(B)/fuzz/%.o,$(FUZZ_USER) tests/fuzz/parsers_root.c)
EDGE_LINK    = $(B)/fuzz/tests/fuzz/edges.c.o $(EDGE_KERNEL) $(B)/fuzz/tests/fuzz/edges_mark.c.o $(1) $(B)/fuzz/tests/fuzz/edges_pad.c.o
$(B)/.need-fuzz: tools/need | $(NEED)
	@tools/need clang:/usr/bin/clang:'make fuzz, for the kernel edges that it reaches' && touch $@
$(EDGE_KERNEL) $(EDGE_USER): EXTRA := $(EDGES)
$(B)/fuzz/tests/fuzz/edges%: EXTRA := -fno-sanitize=address
$(B)/fuzz/%.S.o: EXTRA := -D__ASSEMBLY__
$(B)/fuzz/%.o: % | $(B)/.need-fuzz
	$(call say,CLANG,$<)
	@mkdir -p $(@D)
	$(Q)$(CLANG) $(EXTRA) $(DEP) -c $< -o $@
$(B)/fuzz/libsim.a: $(EDGE_SIM)
	@rm -f $@
	$(Q)ar rcs $@ $^
$(B)/fuzz/fuzz: $(call EDGE_LINK,$(EDGE_USER)) $(patsubst %,$(B)/fuzz/%.o,$(filter-out tests/fuzz/edges% %/parsers_root.c,$(FUZZ_SRC))) $(B)/fuzz/libsim.a
	$(call say,LINK,$@)
	$(Q)$(CLANG) $(SIM_LINK) $^ -o $@
fuzz: $(B)/fuzz/fuzz
	@$< run $(FUZZ_RUN)
# The suites that say what can be reached: everything of tests/unit and tests/sim that has kernel code in it.
EDGE_UNIT := $(patsubst tests/%.c,$(B)/fuzz/check/%,$(shell grep -L '^// LINK: [^s]' $(UNIT_SRC)) $(SIMT_SRC))
$(EDGE_UNIT): $(B)/fuzz/check/%: tests/%.c $(call EDGE_LINK) $(B)/fuzz/libsim.a
	$(call say,TEST,$@)
	@mkdir -p $(@D)
	$(Q)$(CLANG) -Wno-error -Wl,-z,muldefs $(SIM_LINK) $(filter %.c %.o %.a,$^) -lcmocka -o $@
$(B)/fuzz/suites: $(EDGE_UNIT)
	@rm -f $@.new
	@env -u SEED EDGES=$@.new ASAN_OPTIONS=detect_odr_violation=0:detect_leaks=0 TEST_LIMIT=3000 tools/test-run $(EDGE_UNIT)
	@mv $@.new $@
fuzz-edges: $(B)/fuzz/suites $(B)/fuzz/fuzz
	@rm -f $(B)/fuzz/reached
	@$(B)/fuzz/fuzz parsers -t 20 -s 1 -o $(B)/fuzz/failures
	@$(B)/fuzz/fuzz run $(FUZZ_RUN)
	@python3 tests/fuzz/edges.py $(B)/fuzz/fuzz $< $(B)/fuzz/reached
fuzz-parsers: $(B)/fuzz/fuzz
	@$< parsers -t $(SECONDS) $(if $(SEED),-s $(SEED)) -o $(B)/fuzz/failures
fuzz-valgrind: $(B)/check-fast/fuzz
	@ISOLATE=1 valgrind -q --leak-check=no --trace-children=yes --error-exitcode=9 --max-stackframe=8000000 $< run $(FUZZ_RUN)
# AFL++: kernel and parsers with its instrumentation. WHAT: kind of machine (CPUs - 1), or a parser.
WHAT ?= 1
AFL_SRC := $(wildcard src/core/*.c src/arch/*.c) $(FUZZ_USER) tests/fuzz/parsers_root.c tests/fuzz/afl.c
AFL_OBJ := $(patsubst %,$(B)/afl/%.o,$(AFL_SRC))
$(B)/.need-afl: tools/need | $(NEED)
	@tools/need afl++:/usr/bin/afl-fuzz:'make fuzz-afl' && touch $@
$(B)/afl/%.o: % | $(B)/.need-afl
	$(call say,AFL,$<)
	@mkdir -p $(@D)
	$(Q)AFL_QUIET=1 AFL_USE_ASAN=1 $(CLANG:clang=afl-clang-fast) $(DEP) -c $< -o $@
$(B)/afl/fuzz: $(AFL_OBJ) $(patsubst %,$(B)/fuzz/%.o,$(filter-out %/parsers_root.c %/afl.c,$(FUZZ_SRC))) $(B)/fuzz/libsim.a
	$(call say,LINK,$@)
	$(Q)AFL_QUIET=1 AFL_USE_ASAN=1 $(CLANG:clang=afl-clang-fast) $(SIM_LINK) $^ -o $@
fuzz-afl: $(B)/afl/fuzz
	@rm -rf $(B)/afl/in && mkdir -p $(B)/afl/in
	@case $(WHAT) in [0-9]*) cp tests/fuzz/corpus/* $(B)/afl/in ;; *) $< seeds $(WHAT) $(B)/afl/in ;; esac
	@AFL_SKIP_CPUFREQ=1 AFL_I_DONT_CARE_ABOUT_MISSING_CRASHES=1 AFL_NO_UI=1 AFL_NO_AFFINITY=1 afl-fuzz -V $(SECONDS) -t 5000+ -i $(B)/afl/in \
	    -o $(B)/afl/out -- $< afl $(WHAT)
	@grep -E 'execs_done|execs_per_sec|corpus_count|saved_crashes|edges_found|total_edges' $(B)/afl/out/default/fuzzer_stats; \
	    ! ls $(B)/afl/out/default/crashes/id* 2>/dev/null

# The corpus reaches every status of the interface document; some programs and inputs are made from fixed seeds.
FUZZ_CHECK := "@python3 tests/fuzz/statuses.py docs/abi.md $(B)/check/fuzz check tests/fuzz/corpus" \
    "@$(B)/check/fuzz run -n 512 -j 1 -s 1 -o $(B)/check tests/fuzz/corpus" "@$(B)/check/fuzz parsers -n 3000 -s 1 -o $(B)/check"
