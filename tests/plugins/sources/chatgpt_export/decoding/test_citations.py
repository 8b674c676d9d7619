import pytest

from muniment import Citation, Link

CITE = "\ue200cite\ue202turn0search3\ue201"
PAGE = {"title": "A", "url": "https://a.example/1", "snippet": "s"}


def reference(marker: str, start: int, end: int, **more):
    values = {"type": "grouped_webpages", "items": [PAGE], "refs": [], "safe_urls": ["https://a.example/1"]}
    return {"matched_text": marker, "start_idx": start, "end_idx": end, **values, **more}


@pytest.fixture
def cited(message):
    """Returns the citations of a message with this text and metadata."""

    def run(text, members=None, **metadata):
        return list(message(text, members, role="assistant", metadata=metadata).citations)

    return run


class TestReferences:
    def test_have_place_and_links(self, cited):
        found = cited(f"See {CITE}.", content_references=[reference(CITE, 4, 4 + len(CITE))])

        assert found == [
            Citation("grouped_webpages", CITE, 4, 4 + len(CITE), (Link("https://a.example/1", "A"),)),
        ]

    def test_may_count_utf16_units(self, cited):
        """Both ways of counting were claimed of exports; only the right one is believed."""
        text = f"\U0001f600\U0001f600 {CITE} and {CITE}"
        second = text.rindex(CITE)

        found = cited(text, content_references=[reference(CITE, second + 2, second + 2 + len(CITE))])

        assert (found[0].start, found[0].end) == (second, second + len(CITE))

    @pytest.mark.parametrize("place", [(0, 5), (-1, 3), (None, None), (99, 120), ("4", "9"), (9, 4)])
    def test_with_a_wrong_place_are_searched(self, cited, place):
        found = cited(f"{CITE} {CITE}", content_references=[reference(CITE, *place)] * 2)

        assert [c.start for c in found] == [0, len(CITE) + 1]

    def test_without_their_mark_have_no_place(self, cited):
        found = cited("Nothing", content_references=[reference(CITE, 0, 5)])

        assert (found[0].start, found[0].end, found[0].marker) == (-1, -1, CITE)

    def test_collect_all_links_once(self, cited):
        more = {"title": "B", "url": "https://b.example", "supporting_websites": [PAGE, {"url": "https://c.example"}]}
        found = cited("x", content_references=[reference(CITE, 0, 1, items=[PAGE, more], fallback_items=[PAGE])])

        assert [link.url for link in found[0].links] == [
            "https://a.example/1",
            "https://b.example",
            "https://c.example",
        ]

    def test_fall_back_to_bare_urls(self, cited):
        found = cited("x", content_references=[reference(CITE, 0, 1, items=None)])

        assert found[0].links == (Link("https://a.example/1"),)

    def test_footnotes_have_no_mark(self, cited):
        """Their mark is a blank; whoever replaced it would replace the first blank of the text."""
        note = {"type": "sources_footnote", "matched_text": " ", "start_idx": 3, "end_idx": 4, "sources": [PAGE]}

        assert cited("a b c", content_references=[note]) == [
            Citation("sources_footnote", links=(Link("https://a.example/1", "A"),))
        ]

    @pytest.mark.parametrize("kind", ["hidden", "attribution"])
    def test_that_carry_nothing_are_left_out(self, cited, kind):
        empty = {"type": kind, "matched_text": "x", "start_idx": 0, "end_idx": 1, "refs": [], "alt": None}

        assert cited("x", content_references=[empty]) == []

    def test_of_other_kinds_keep_what_they_carry(self, cited):
        stock = {"type": "stock", "matched_text": "x", "start_idx": 0, "end_idx": 1, "ticker": "ABC", "alt": None}

        assert cited("x", content_references=[stock]) == [Citation("stock", "x", 0, 1, metadata={"ticker": "ABC"})]

    def test_of_files_name_the_file(self, decode, node, talk):
        """A cited file is an asset where the export holds it; its absence is no finding."""
        known, absent = (
            {"type": "file", "matched_text": "", "name": f"{i}.pdf", "id": f"file-{i}", "snippet": "s"} for i in "12"
        )
        record = decode(
            talk(node("m1", "x", metadata={"content_references": [known, absent]})), {"file-1.dat": b"%PDF-"}
        )

        assert [c.file_id for c in record.conversation.messages[0].citations] == ["file-1", "file-2"]
        assert [a.id for a in record.conversation.assets] == ["file-1"]
        assert record.findings == ()


class TestOldCitations:
    def test_count_where_there_are_no_references(self, cited):
        mark = "【12†source】"
        old = {
            "start_ix": 2,
            "end_ix": 2 + len(mark),
            "citation_format_type": "tether_og",
            "metadata": {"type": "webpage", **PAGE, "extra": None},
        }

        assert cited(f"A {mark}", citations=[old], content_references=[]) == [
            Citation("webpage", mark, 2, 2 + len(mark), (Link(PAGE["url"], "A"),), metadata={"snippet": "s"})
        ]

    def test_of_files_name_the_file(self, cited):
        old = {"start_ix": 0, "end_ix": 1, "metadata": {"type": "file", "name": "a.pdf", "id": "file-1"}}

        assert cited("x", citations=[old]) == [
            Citation("file", file_id="file-1", metadata={"name": "a.pdf", "id": "file-1"})
        ]


class TestMarks:
    GROUPS = [  # noqa: RUF012
        {
            "type": "search_result_group",
            "entries": [{**PAGE, "ref_id": {"turn_index": 0, "ref_type": "search", "ref_index": 3}}, {"url": "u"}, 5],
        }
    ]

    def test_are_resolved_by_the_results_of_the_message(self, cited):
        assert cited(f"See {CITE}", search_result_groups=self.GROUPS) == [
            Citation("cite", CITE, 4, 4 + len(CITE), (Link(PAGE["url"], "A"),))
        ]

    def test_are_resolved_by_the_results_of_other_messages(self, decode, node, talk):
        search = node("m1", "", metadata={"search_result_groups": self.GROUPS})

        record = decode(talk(search, node("m2", CITE, parent="m1")))

        assert record.conversation.messages[1].citations[0].links == (Link(PAGE["url"], "A"),)

    def test_that_a_reference_explains_are_not_doubled(self, cited):
        found = cited(CITE, content_references=[reference(CITE, 0, len(CITE))], search_result_groups=self.GROUPS)

        assert [c.kind for c in found] == ["grouped_webpages"]

    def test_that_nothing_explains_stay_text(self, cited):
        assert cited(f"{CITE} \ue200navlist\ue202x\ue201 \ue200") == []


class TestSandboxLinks:
    @pytest.mark.parametrize("origin", [{"origination_message_id": "m1"}, {"origination_thread_id": "c1"}])
    def test_name_the_file_of_the_library(self, decode, node, talk, origin):
        library = [{"file_id": "file_9", "file_name": "my table.csv", "mime_type": "text/csv", **origin}]
        text = "[get](sandbox:/mnt/data/my%20table.csv) or [other](sandbox:/mnt/data/other.csv)"

        record = decode(talk(node("m1", text)), {"library_files.json": library, "file_9.dat": b"a,b"})

        citation = record.conversation.messages[0].citations[0]
        assert citation.marker == "sandbox:/mnt/data/my%20table.csv"
        assert text[citation.start : citation.end] == citation.marker
        assert citation.file_id == "file_9"
        assert [(a.name, a.mime_type, a.size) for a in record.conversation.assets] == [("my table.csv", "text/csv", 3)]
