-- Who asks for the turns of an item asks for those in which a memory was recalled. Most of what is weighed is not, and an
-- index of all of it was the greater part of what a turn with recall wrote.
DROP INDEX recalls_by_item;
CREATE INDEX recalled_memories ON recalls (item) WHERE kind = 'memory' AND outcome = 'recalled';
