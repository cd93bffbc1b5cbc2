// How the search orders what it finds: pages that explain something come before lists of words,
// entries of names, and records of decisions. Sphinx's own numbers are kept.
"use strict";

var Scorer = {
  score: ([page, , , , score]) => {
    if (/^(how-to|tutorial)\//.test(page)) return score + 5;
    if (/^explanation\//.test(page)) return score + 3;
    if (/^reference\/glossary/.test(page)) return score - 20;
    if (/^adr\//.test(page)) return score - 10;
    return score;
  },
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
