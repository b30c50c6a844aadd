/* The page of the trace without its data, for trace_page.c: head, then comes the data, tail. Sources in src/sim/page. */
    .section .rodata
    .globl sim_page_head, sim_page_tail, sim_page_end
    .hidden sim_page_head, sim_page_tail, sim_page_end
sim_page_head:
    .ascii "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>trace</title><link rel=\"icon\" href=\"data:,\">\n<style>\n"
    .incbin "src/sim/page/page.css"
    .ascii "</style></head><body>\n"
    .incbin "src/sim/page/page.html"
    .ascii "<script type=\"application/json\" id=\"data\">\n"
sim_page_tail:
    .ascii "\n</script>\n<script>\n"
    .incbin "src/sim/page/model.js"
    .incbin "src/sim/page/draw.js"
    .incbin "src/sim/page/ui.js"
    .ascii "</script></body></html>\n"
sim_page_end:
    .byte 0
    .section .note.GNU-stack, "", @progbits
