import pytest

from pipeline.input.archives import archive_kind, unsupported


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("b.zip", "zip"),
        ("a/B.ZIP", "zip"),
        ("x.7z", "7z"),
        ("x.rar", "RAR"),
        ("x.tar.xz", "tar.xz"),
        ("x.txz", "tar.xz"),
        ("x.tar.bz2", "tar.bz2"),
        ("x.tbz2", "tar.bz2"),
        ("x.tar.lz4", "tar.lz4"),
        ("a.jpg.gz", "gzip"),
        ("inner.tar", "tar"),
        ("train-00000-of-00010.tfrecord", "TFRecord"),
        ("data-00000-of-00001.arrow", "Arrow"),
        ("x.zip.001", "split zip"),
        ("x.z01", "split zip"),
        ("x.r00", "split RAR"),
        ("x.7z.002", "split 7z"),
        ("x.tar.gz.part-ab", "split tar.gz"),
    ],
)
def test_archives_have_a_name(name, kind):
    assert archive_kind(name) == kind
    fault = unsupported(name, kind, 7)
    assert fault.error == "unsupported_archive" and kind in fault.message and name.rpartition("/")[2] in fault.message
    assert fault.byte_offset == 7


@pytest.mark.parametrize(
    "name", ["a.jpg", "zip", "a.zip/b.jpg", "img.001", "a.jpg.002", "x.docx", "x.pdf", "a.part", ".zip.jpg"]
)
def test_other_names_are_no_archives(name):
    assert archive_kind(name) is None
