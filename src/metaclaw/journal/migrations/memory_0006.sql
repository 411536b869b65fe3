-- A word of the index is a word of one agent (memory/word_index.py), and where in a unit it stands is not kept. The
-- index is made anew by whoever finds it of an older form; until then units are found by meaning alone.
DROP TABLE vocabulary;
DROP TABLE words;
CREATE VIRTUAL TABLE words USING fts5(
    body, detail = none, tokenize = "unicode61 remove_diacritics 0 categories 'L* N* M* Co'"
);
CREATE VIRTUAL TABLE vocabulary USING fts5vocab(words, 'row');
DELETE FROM index_version;
