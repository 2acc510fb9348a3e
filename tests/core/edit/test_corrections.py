from tasks.core.edit.document import writable


def test_only_texts_that_a_document_may_have_become_corrections():
    """Whoever wrote them: a model's words can hold what captions take for commands."""
    texts = {0: "{\\an8}", 1: " two\nwords ", 2: "x" * 101, 3: "\u200b", 4: "a\u202eb", 5: "\u00e9", -1: "before"}
    assert writable(texts) == {5: "\u00e9"}
