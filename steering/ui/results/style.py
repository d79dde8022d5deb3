"""How the tab "Does it work?" looks. Knows no component by code."""

# Colours of bars keep a contrast of 3 and more to the page, texts 4.5, in both themes.
RESULTS_CSS = """
.results h2 { font-size: 1.15rem; font-weight: 650; margin: .75rem 0 .25rem; }
.results h3 { font-size: 1rem; font-weight: 600; margin: 1rem 0 .25rem; }
.results p { margin: .25rem 0; }
.results .html-container { padding: 0; }
.results .trouble { color: #7c2d12; }
.dark .results .trouble { color: #ffedd5; }
.results .note { color: #475569; font-size: .8125rem; }
.dark .results .note { color: #cbd5e1; }

.results .cards { display: flex; flex-wrap: wrap; gap: .75rem; margin: .5rem 0; padding: 0; }
.results .card {
  flex: 1 1 12rem; border: 1px solid var(--border-color-primary); border-radius: .5rem;
  border-top-width: 4px; padding: .5rem .75rem;
}
.results .card dt { font-weight: 600; }
.results .card dd { margin: 0; }
.results .card b { display: block; font-size: 2rem; line-height: 1.2; font-weight: 700; }
.results .card span { font-size: .8125rem; color: #475569; }
.dark .results .card span { color: #cbd5e1; }
.results .card-before { border-top-color: #b45309; }
.results .card-words { border-top-color: #64748b; }
.results .card-after { border-top-color: #2563eb; }

.results .bars { margin: .5rem 0; padding: 0; }
.results .bar-group { margin: 0 0 .6rem; font-size: .875rem; }
.results .bar-row {
  display: grid; grid-template-columns: minmax(6rem, 11rem) minmax(4rem, 1fr) minmax(3.25rem, 5rem);
  gap: .5rem; align-items: center; font-size: .8125rem; line-height: 1.35;
}
.results .bar { display: block; width: 100%; overflow: visible; }
.results .bar-room { fill: var(--border-color-primary); opacity: .35; }
.results .bar-before { fill: #b45309; }
.results .bar-words { fill: #64748b; }
.results .bar-after { fill: #2563eb; }
.dark .results .bar-before { fill: #f59e0b; }
.dark .results .bar-words { fill: #94a3b8; }
.dark .results .bar-after { fill: #60a5fa; }
.results .halo line { stroke: var(--body-background-fill); stroke-width: 4px; }
.results .whisker line { stroke: var(--body-text-color); stroke-width: 1.5px; }

.results details { margin: .5rem 0; }
.results summary { cursor: pointer; font-weight: 600; font-size: .925rem; padding: .25rem 0; }
.results .wide { overflow-x: auto; max-width: 100%; }
.results .wide:focus-visible { outline: 2px solid #2563eb; outline-offset: 2px; }
.results table { border-collapse: collapse; width: 100%; font-size: .875rem; }
.results th, .results td {
  border-bottom: 1px solid var(--border-color-primary); padding: .35rem .5rem;
  text-align: start; vertical-align: top; font-weight: 400; min-width: 7rem;
}
.results thead th { font-weight: 600; }
.results td p { margin: .25rem 0 0; overflow-wrap: anywhere; }
.results td p { unicode-bidi: plaintext; }
/* A bar begins where the lines of its language do. */
.results [dir="rtl"] .bar { transform: scaleX(-1); }
.results pre { overflow-x: auto; max-width: 100%; font-size: .8125rem; padding: .5rem; }
.results li { overflow-wrap: anywhere; }
.results progress {
  appearance: none; display: block; width: 100%; height: .625rem; margin: .5rem 0;
  border: none; border-radius: 999px; overflow: hidden; background: var(--neutral-200);
}
.results progress::-webkit-progress-bar { background: var(--neutral-200); }
.results progress::-webkit-progress-value { background: #2563eb; }
.results progress::-moz-progress-bar { background: #2563eb; }
"""
