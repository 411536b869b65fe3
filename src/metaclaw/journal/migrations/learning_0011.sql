-- Each answer of a model that was asked so that something is learned. Tokens that it did not report are estimated where
-- somebody counts on them, and NULL elsewhere; a NULL cost is unknown, which is not 0.
CREATE TABLE paid_calls (
    id INTEGER PRIMARY KEY,
    purpose TEXT NOT NULL CHECK (purpose IN ('judging', 'comparing', 'teaching', 'remembering')),
    agent TEXT NOT NULL,
    model TEXT,                              -- NULL: an older release did not write it down
    tokens INTEGER,
    is_estimate INTEGER NOT NULL,
    prompt_tokens INTEGER,                   -- as it said, of either kind; NULL where it did not
    completion_tokens INTEGER,
    cost_usd REAL,
    called_at REAL NOT NULL
) STRICT;
CREATE INDEX paid_calls_by_time ON paid_calls (purpose, called_at);

INSERT INTO paid_calls
    (purpose, agent, tokens, is_estimate, prompt_tokens, completion_tokens, cost_usd, called_at)
SELECT CASE purpose WHEN 'exchange' THEN 'judging' ELSE 'comparing' END,
    agent, tokens, is_estimate, prompt_tokens, completion_tokens, cost_usd, called_at
FROM judge_calls ORDER BY id;
INSERT INTO paid_calls
    (purpose, agent, model, tokens, is_estimate, prompt_tokens, completion_tokens, cost_usd, called_at)
SELECT 'teaching', agent, teacher, tokens, is_estimate, prompt_tokens, completion_tokens, cost_usd, called_at
FROM teacher_calls ORDER BY id;
INSERT INTO paid_calls
    (purpose, agent, tokens, is_estimate, prompt_tokens, completion_tokens, cost_usd, called_at)
SELECT 'remembering', agent, prompt_tokens + completion_tokens, 0, prompt_tokens, completion_tokens, cost_usd, called_at
FROM extraction_calls ORDER BY id;

DROP TABLE judge_calls;
DROP TABLE teacher_calls;
DROP TABLE extraction_calls;

-- What a teacher that is paid said of a turn, so that nobody pays for it again when its update has to begin anew.
CREATE TABLE teacher_words (
    turn TEXT NOT NULL REFERENCES samples (turn),
    teacher TEXT NOT NULL,
    call INTEGER NOT NULL REFERENCES paid_calls (id),
    logprobs BLOB NOT NULL,                  -- float32, little-endian, one for each token of the turn's answer
    PRIMARY KEY (turn, teacher)
) STRICT, WITHOUT ROWID;
CREATE INDEX teacher_words_by_call ON teacher_words (call);

-- However a sample ends, nobody will ask for them again.
CREATE TRIGGER teacher_words_are_used AFTER UPDATE OF state ON samples
WHEN NEW.state NOT IN ('pending', 'claimed')
BEGIN
    DELETE FROM teacher_words WHERE turn = NEW.turn;
END;
CREATE TRIGGER teacher_words_are_gone BEFORE DELETE ON samples
BEGIN
    DELETE FROM teacher_words WHERE turn = OLD.turn;
END;
