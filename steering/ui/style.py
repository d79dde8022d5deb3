"""How the page looks: theme, CSS, and what the browser may load. Knows no component by code."""

import gradio as gr

_FONTS = ("system-ui", "Noto Sans", "Noto Sans CJK SC", "sans-serif")


def make_theme() -> gr.themes.Base:
    """Return the theme: quiet greys, one blue, the system's own fonts."""
    return gr.themes.Base(
        primary_hue="blue",
        neutral_hue="slate",
        radius_size="md",
        font=_FONTS,
        font_mono=("ui-monospace", "Noto Sans Mono", "monospace"),
    ).set(
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        body_text_color_subdued="*neutral_600",  # of gradio's own, too pale to be read
        body_text_color_subdued_dark="*neutral_300",
    )


# Pictures come from this server alone: an answer is not to make a browser tell others of itself.
HEAD = (
    '<meta http-equiv="Content-Security-Policy" '
    "content=\"img-src 'self' data: blob:; media-src 'self' data: blob:; form-action 'self'\">"
)

# Badge colours keep a contrast of 4.5 and more to the bubble, in the light and the dark theme.
CSS = """
.gradio-container { max-width: 1080px !important; width: 100%; margin: 0 auto !important; }
#head { gap: .25rem; }
#head h1 { font-size: 1.35rem; font-weight: 650; margin: 0; }
#head .prose > * + * { margin-top: .25rem; }
#head .html-container { padding: 0; }
#making { border: 1px solid var(--border-color-primary); border-radius: .5rem; padding: .75rem; }
#making { gap: .5rem; }
#making h2 { font-size: 1rem; font-weight: 600; margin: 0; }
#making p { margin: .25rem 0 0; font-size: .925rem; }
#making .trouble { color: #7c2d12; }
.dark #making .trouble { color: #ffedd5; }
#making .html-container { padding: 0; }
#making button { align-self: flex-start; width: fit-content; }
#making progress {
  appearance: none; display: block; width: 100%; height: .625rem; margin: .5rem 0;
  border: none; border-radius: 999px; overflow: hidden; background: var(--neutral-200);
}
#making progress::-webkit-progress-bar { background: var(--neutral-200); }
#making progress::-webkit-progress-value { background: #2563eb; }
#making progress::-moz-progress-bar { background: #2563eb; }
#head p { margin: 0; color: #475569; font-size: .925rem; }
#head b { color: var(--body-text-color); font-weight: 600; }
.dark #head p { color: #cbd5e1; }

/* Compare: the steered answer comes first, where columns stack and for whoever has it read out. */
#compare-intro p, #compare-results p, #compare-results h2 { margin: 0; }
#compare-intro, #compare-status, #compare-results { padding: 0; }
#compare-intro .html-container, #compare-status .html-container { padding: 0; }
#compare-results .html-container { padding: 0; }
#compare-ask { align-items: flex-end; }
#compare-intro p { font-size: .925rem; }
#compare-examples { flex-wrap: wrap; gap: .5rem; }
#compare-examples button { flex: 0 1 auto; width: auto; white-space: normal; }
#compare-box textarea { font-size: 16px; }
#compare-status p { font-size: .925rem; min-height: 1.25rem; margin: 0; }
#compare-status p { unicode-bidi: plaintext; text-align: start; }
#compare-results .columns { display: grid; grid-template-columns: minmax(0, 1fr); gap: .75rem; }
#compare-results .column {
  border: 1px solid var(--border-color-primary); border-radius: .5rem; padding: .75rem;
  display: flex; flex-direction: column; gap: .5rem; min-width: 0; overflow-wrap: anywhere;
}
#compare-results .column h2 { font-size: 1rem; font-weight: 600; }
#compare-results .column .how, #compare-results .facts { font-size: .8125rem; color: #475569; }
.dark #compare-results .column .how { color: #cbd5e1; }
.dark #compare-results .facts { color: #cbd5e1; }
#compare-results .answer { display: flex; flex-direction: column; gap: .5rem; line-height: 1.7; }
#compare-results .answer p { white-space: pre-wrap; unicode-bidi: plaintext; text-align: start; }
#compare-results .answer .code { font-family: ui-monospace, monospace; unicode-bidi: isolate; }
#compare-results .columns + .facts { margin-top: .75rem !important; }
#compare-results .legend {
  display: flex; flex-wrap: wrap; gap: .25rem .75rem; list-style: none; padding: 0;
  margin: .25rem 0 0; font-size: .8125rem;
}
#compare-results .said { border-radius: .25rem; padding: .1rem .2rem; }
.said-wanted { background: #dff3e4; color: #14532d; }
.said-other { background: #fde5d3; color: #7c2d12; text-decoration: underline dashed; }
.said-unsure { background: #e5e9f0; color: #334155; }
#compare-results .said {
  box-decoration-break: clone; -webkit-box-decoration-break: clone;
}
.dark .said-wanted { background: #14532d; color: #dcfce7; }
.dark .said-other { background: #7c2d12; color: #ffedd5; }
.dark .said-unsure { background: #334155; color: #e2e8f0; }
.in-words { font-size: .75rem; white-space: nowrap; margin: 0 .25rem; }
@media (min-width: 761px) {
  #compare-results .columns { grid-template-columns: repeat(3, minmax(0, 1fr)); }
  .way-plain { order: -2; }
  .way-instructed { order: -1; }
}

/* Each paragraph runs in its own direction, whatever its neighbours do. */
#chat .message p, #chat .message li, textarea {
  unicode-bidi: plaintext; text-align: start;
}
.message, .message p { overflow-wrap: anywhere; min-width: 0; }
button { unicode-bidi: plaintext; }
/* Gradio lays its components out from left to right; what stands on them may be Arabic. */
[data-testid="block-info"], [data-testid="block-label"], label > span, .label-wrap > span,
.info-text, #inside-table th span, #inside-table .label {
  unicode-bidi: plaintext;
}
.info-text { text-align: start; }
/* To those who read from the right, the page runs from there; a component alone would not. */
html:lang(ar) .gradio-container, html:lang(ar) textarea, html:lang(ar) [data-testid="block-info"],
html:lang(ar) .block[dir="ltr"]:not(:has(.cm-editor)) { direction: rtl; }
html:lang(ar) [role="combobox"] { unicode-bidi: plaintext; text-align: right; }
html:lang(ar) pre, html:lang(ar) .slider_input_container { direction: ltr; text-align: left; }
html:lang(ar) .icon-wrap { right: auto; left: 1.25rem; }
html:lang(ar) label > input + span { margin: 0 .5rem 0 0; }
.placeholder p { unicode-bidi: plaintext; }
.trouble span, .badge span, .note span { color: inherit; }
#chat pre { direction: ltr; unicode-bidi: isolate; }
#box textarea { font-size: 16px; }

/* Gradio draws messages a little transparent, which costs contrast. */
.message.thought, .message .prose { opacity: 1 !important; }
::placeholder { color: #64748b !important; opacity: 1; }
.dark ::placeholder { color: #a3b1c6 !important; }
.placeholder { font-size: .925rem; }
.example { padding: .5rem .75rem !important; min-width: 0; max-width: 100%; }
#chat .examples { width: 100%; min-width: 0; box-sizing: border-box; }
/* "New chat" forgets the conversation as a whole; this would forget what is shown alone. */
#chat .icon-button-wrapper.top-panel { display: none; }
#after button { flex: 0 1 auto; }
/* Gradio covers what a failed listener was to fill; the conversation stays readable. */
#chat > [data-testid="status-tracker"] { display: none; }

.badge, .note { font-size: .8125rem; line-height: 1.3; }
.badge { display: inline-block; padding: .1rem .5rem; border-radius: 999px; font-weight: 600; }
.badge-good { background: #dff3e4; color: #14532d; }
.badge-bad { background: #fde5d3; color: #7c2d12; }
.badge-neutral { background: #e5e9f0; color: #334155; }
.note { color: #475569; }
.unsettled { color: #5b6779; font-style: italic; }
mark.stray, .why { background: #fde5d3; color: #7c2d12; border-radius: .2rem; }
.why { font-size: .8125rem; font-weight: 600; padding: 0 .25rem; white-space: nowrap; }
.dark mark.stray, .dark .why { background: #7c2d12; color: #ffedd5; }
.dark .badge-good { background: #14532d; color: #dcfce7; }
.dark .badge-bad { background: #7c2d12; color: #ffedd5; }
.dark .badge-neutral { background: #334155; color: #e2e8f0; }
.dark .note { color: #cbd5e1; }
.dark .unsettled { color: #a3b1c6; }

/* "Look inside": bars, and tokens over the code of the language that fired. */
.inside .html-container { padding: 0; }
.inside h3 { font-size: .95rem; font-weight: 600; margin: .5rem 0 .25rem; }
.inside p { margin: .25rem 0; font-size: .925rem; overflow-wrap: anywhere; }
.inside [dir="rtl"] .wide .bars { transform: scaleX(-1); }
.inside-halves { display: grid; gap: .5rem 1.5rem;
  grid-template-columns: repeat(auto-fit, minmax(min(300px, 100%), 1fr)); }
.inside-halves section { min-width: 0; }
.inside .bars text { font-size: 11px; text-anchor: middle; fill: currentColor; }
.inside .bars line { stroke: currentColor; }
.inside .bars .bar { fill: #2563eb; }
.dark .inside .bars .bar { fill: #60a5fa; }
.inside .scrolls { overflow: auto; max-height: 20rem; max-width: 100%; }
.inside table, .inside tr { border: none; }
.inside tr + tr, .inside thead + tr { border-top: 1px solid var(--border-color-primary); }
.inside table { border-collapse: collapse; font-size: .875rem; width: auto; margin: 0; }
.inside th, .inside td { padding: .15rem .6rem .15rem 0; text-align: start; border: none;
  font-variant-numeric: tabular-nums; white-space: pre; font-weight: 400; background: none; }
.inside thead th { font-weight: 600; }
.inside td.wide { width: 8rem; min-width: 5rem; }
.inside summary { cursor: pointer; font-size: .875rem; padding: .25rem 0; }
.inside .tokens { display: flex; flex-wrap: wrap; gap: .25rem 1px; margin: .5rem 0; }
.inside .token { display: inline-flex; flex-direction: column; align-items: center;
  border-radius: .2rem; padding: 0 .1rem; min-width: 1.1rem; max-width: 100%; }
.inside .said { white-space: pre-wrap; overflow-wrap: anywhere; min-height: 1.5em; }
.inside .code { font-size: .75rem; line-height: 1.3; direction: ltr; }
.inside .fired { background: hsl(var(--hue) 75% 88%); color: #111827; }
.dark .inside .fired { background: hsl(var(--hue) 45% 24%); color: #f3f4f6; }
.inside ul.legend { list-style: none; display: flex; flex-wrap: wrap; gap: .25rem 1rem; padding: 0;
  margin: .25rem 0; font-size: .875rem; }
.inside .said-whole { white-space: pre-wrap; unicode-bidi: plaintext; overflow-wrap: anywhere; }

.about h2 { font-size: 1.05rem; font-weight: 600; margin: 1rem 0 .25rem; }
.about p, .about li { margin: .25rem 0; line-height: 1.5; }
.about ul { list-style: disc; padding-inline-start: 1.25rem; margin: 0; }
.about p:empty { margin: 0; }
.about .trouble { color: #7c2d12; font-weight: 600; }
.dark .about .trouble { color: #ffedd5; }
.about-facts {
  overflow-x: auto; border: 1px solid var(--border-color-primary); border-radius: .5rem;
}
.about-facts table { width: 100%; border-collapse: collapse; font-size: .875rem; margin: 0; }
.about-facts table, .about-facts tr { border: none; }
.about-facts th, .about-facts td {
  text-align: start; vertical-align: top; padding: .3rem .6rem; min-width: 7.5rem;
  border: none; border-top: 1px solid var(--border-color-primary); overflow-wrap: anywhere;
}
.about-facts tbody th { font-weight: 600; }
.about-facts thead th { border-top: none; }

/* Gradio colours code by kind, too palely for either theme. */
.cm-content, .cm-content span { color: var(--body-text-color) !important; }

#link, #link .html-container { padding: 0; min-height: 0; }
#link p { margin: 0; font-size: .875rem; }
#link input {
  width: 100%; margin-top: .25rem; padding: .4rem .6rem; font-size: .875rem;
  color: var(--body-text-color); background: var(--input-background-fill);
  border: 1px solid #64748b; border-radius: .375rem;
}

/* What the browser says of a server that is gone: beside the page, not in it, and at the bottom, as
   Gradio's own words on it come up at the top. */
#server-watch {
  position: fixed; inset: auto 0 0; z-index: 1000; padding: .75rem 1rem; text-align: center;
  background: #fde5d3; color: #7c2d12; border-top: 2px solid #7c2d12; font-size: .925rem;
}
#server-watch:empty { display: none; }
#server-watch p { max-width: 60rem; margin: 0 auto; color: inherit; }
#server-watch button {
  margin-top: .5rem; padding: .35rem .75rem; border: 1px solid currentColor;
  border-radius: .375rem; font-weight: 600; background: none; color: inherit; cursor: pointer;
}
.dark #server-watch { background: #7c2d12; color: #ffedd5; border-color: #ffedd5; }

@media (max-width: 640px) { .placeholder { display: none; } }
@media (prefers-reduced-motion: reduce) {
  * { animation: none !important; transition: none !important; }
}
"""
