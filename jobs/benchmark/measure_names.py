"""The names of the measures of `flowscore bench`, which its settings and tables share."""

IN_MEMORY, DECODE_ONLY, END_TO_END = "in-memory", "decode-only", "end-to-end"
MEASURES = (IN_MEMORY, DECODE_ONLY, END_TO_END)
