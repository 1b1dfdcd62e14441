from jobs.examined.finding import Finding


def test_what_is_not_ok_says_what_to_do_in_a_line_below():
    assert str(Finding("ok", "python", "3.12")) == "ok   python     3.12"
    assert str(Finding("warn", "disk", "1 GiB free", "Free some.")).splitlines()[1] == " " * 16 + "Free some."
    assert str(Finding("warn", "model", "held", "Look.\nMend.")).splitlines()[1:] == [" " * 16 + "Look.", " " * 16 + "Mend."]
