import json
import shlex

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from muse_studio.errors import RecipeError, UserError
from muse_studio.recipe.merging import PICTURE_KEY, load, merge, override, overrides, shipped, to_yaml
from muse_studio.recipe.running import check
from muse_studio.recipe.sources import webp_exif
from muse_studio.recipe.tree import Node, parse

RECIPES = ", ".join(sorted(shipped()))


def plain(text):
    return parse(text, "a.yaml").plain()


def refused(call, *args, **named):
    """What a call tells its user."""
    with pytest.raises(UserError) as error:
        call(*args, **named)
    return str(error.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E5", 1e5),
        ("-.5", -0.5),
        ("3.", 3.0),
        (".inf", float("inf")),
        ("12", 12),
        ("007", 7),
        ("0x1F", 31),
        ("0o17", 15),
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("off", "off"),
        ("12:30", "12:30"),
        ("2024-01-01", "2024-01-01"),
        ("1_000", "1_000"),
        ("=", "="),
        ("true", True),
        ("False", False),
        ("~", None),
        ("null", None),
        ("'null'", "null"),
        ('""', ""),
        ("!!str 7", "7"),
        (r'"\ud83c\udf4e"', "🍎"),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text, value):
    found = plain(f"key: {text}")["key"]
    assert (found, type(found)) == (value, type(value))


def test_keys_are_text_whatever_they_look_like():
    assert plain("1: a\nno: b\nnull: c") == {"1": "a", "no": "b", "null": "c"}


def test_nodes_know_their_line_and_anchors_work():
    root = parse("a: &x\n  b: 1\nc: *x\nd:\n- 1\n- e: 2\n", "a.yaml")
    assert root.plain() == {"a": {"b": 1}, "c": {"b": 1}, "d": [1, {"e": 2}]}
    assert (root.place, root.value["a"].place, root.value["c"].place) == ("a.yaml:1", "a.yaml:1", "a.yaml:3")
    assert root.value["c"].value["b"].place == "a.yaml:2"
    assert root.value["d"].value[1].value["e"].place == "a.yaml:6"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "a.yaml:3  'a' is written twice in one table, first in line 1"),
        ("1: a\n'1': b", "a.yaml:2  '1' is written twice in one table, first in line 1"),
        ("a:\n\tb: 1", "a.yaml:2  indented by a tab; YAML knows spaces only: put spaces in its place"),
        ("a: \tb", "a.yaml:1  a tab stands here; YAML knows spaces only: put spaces in its place"),
        ("a: b: c", "a.yaml:1  not YAML: mapping values are not allowed here; text that holds any of : # "),
        ("a: [1", "a.yaml:1  not YAML: while parsing a flow sequence expected ',' or ']', but got '<stream end>'"),
        ("a: 1\n---\nb: 2", "a.yaml:2  not YAML: expected a single document in the stream but found another document"),
        (
            "x: 1\na: !!python/object/apply:os.system [ls]",
            "a.yaml:2  the tag !!python/object/apply:os.system is not for",
        ),
        ("a: !part x", "a.yaml:1  the tag !part is not for recipes, which hold data alone; remove it, or put"),
        ("<<: {a: 1}", "a.yaml:1  '<<' is not for recipes; write 'extends: NAME' to take over another recipe"),
        ("? [a]\n: b", "a.yaml:1  a key must be text, not a list or a table"),
        ("a: &x [*x]", "a.yaml:1  an alias (*name) stands inside of what it repeats"),
        ("a: 1\nb: \0", "a.yaml:2  a character that YAML does not allow: U+0000"),
        ("a: !!int b", "a.yaml:1  'b' can't be read as int"),
        ("a: " + "9" * 5000, "a.yaml:1  a number of 5,000 digits, and 1,000 are the most"),
        ('a: "\\ud83c"', "can't be read as str"),
        ("[" * 1500, "a.yaml:1  it is nested too deeply"),
    ],
)
def test_what_is_no_recipe_text_is_told_by_line(text, message):
    assert message in refused(parse, text, "a.yaml")


def test_aliases_cannot_write_billions():
    text = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 10))
    assert "more than 100000 values; aliases (*name) repeat whole tables" in refused(parse, text, "a.yaml")


TEXT = st.text(st.characters(exclude_categories=["Cs"]))
TRAPS = st.sampled_from(
    ["no", "1e-4", "007", "null", "~", "<<", "=", "- a", "a: b", "# c", "true", "\t", "\x85", "🍎", ""]
)
DATA = st.recursive(
    TEXT | TRAPS | st.integers() | st.floats(allow_nan=False) | st.booleans() | st.none(),
    lambda inner: st.lists(inner) | st.dictionaries((TEXT | TRAPS).filter(lambda key: key != "extends"), inner),
    max_leaves=12,
)


@settings(max_examples=60)
@given(st.dictionaries(TEXT.filter(lambda key: key != "extends"), DATA))
def test_what_is_shown_reads_back_the_same(data):
    text = to_yaml(data)
    assert repr(parse(text, "shown.yaml").plain()) == repr(data)
    assert repr(load(data).plain()) == repr(data)


def test_json_reads_as_itself():
    data = {"prompt": ["a 🍎", 'say "no"\n\ttwice'], "steps": 8, "scale": 1e-5, "negative": None, "on": True}
    assert plain(json.dumps(data)) == data


def test_a_recipe_as_a_dict_must_be_plain_data():
    assert "is of type object; a recipe holds text, numbers" in refused(load, {"a": [object()]})
    assert refused(load, {"a": {1: 2}}) == "recipe  a table has the key 1; keys are text"
    assert load({"a": (1, 2)}).plain() == {"a": [1, 2]}


class TestMerging:
    def merged(self, below, above):
        return merge(load(below), load(above)).plain()

    def test_tables_merge_and_all_else_replaces(self):
        below = {"a": {"b": 1, "c": [1, 2]}, "d": 1}
        assert self.merged(below, {"a": {"c": [3]}, "e": None}) == {"a": {"b": 1, "c": [3]}, "d": 1, "e": None}
        assert self.merged(below, {"a": None}) == {"a": None, "d": 1}
        assert self.merged(below, {"d": {"x": 1}}) == {"a": {"b": 1, "c": [1, 2]}, "d": {"x": 1}}

    def test_another_part_replaces_the_whole_part(self):
        below = {"sampler": {"use": "confidence", "steps": 8}}
        assert self.merged(below, {"sampler": {"use": "halton"}}) == {"sampler": {"use": "halton"}}
        assert self.merged(below, {"sampler": "halton"}) == {"sampler": {"use": "halton"}}

    def test_the_same_part_keeps_its_settings(self):
        below = {"sampler": {"use": "confidence", "steps": 8}}
        assert self.merged(below, {"sampler": {"use": "confidence", "t": 1}})["sampler"]["steps"] == 8
        assert self.merged(below, {"sampler": "confidence"}) == below

    def test_a_parent_without_use_merges(self):
        assert self.merged({"s": {"steps": 8}}, {"s": {"use": "x"}}) == {"s": {"steps": 8, "use": "x"}}

    def test_settings_for_a_bare_name(self):
        assert self.merged({"s": "x"}, {"s": {"steps": 8}}) == {"s": {"use": "x", "steps": 8}}
        assert self.merged({"s": "x"}, {"s": {"use": "y"}}) == {"s": {"use": "y"}}

    def test_places_follow_what_they_place(self):
        below, above = parse("a:\n  b: 1\n  c: 2\n", "below"), parse("\n\na: {c: 3}", "above")
        table = merge(below, above).value["a"]
        assert (table.place, table.value["b"].place, table.value["c"].place) == ("above:3", "below:2", "above:3")


class TestExtends:
    def test_a_parent_by_relative_path(self, write):
        write("base/model.yaml", "stages: {base: {size: 64, sampler: {use: fast, steps: 8}}}")
        write("my/own.yaml", "extends: ../base/model.yaml\nuse: draw\nstages: {base: {sampler: {steps: 4}}}")
        root = load("my/own.yaml")
        assert root.plain() == {"stages": {"base": {"size": 64, "sampler": {"use": "fast", "steps": 4}}}, "use": "draw"}
        base = root.value["stages"].value["base"]
        assert (base.value["size"].place, base.value["sampler"].value["steps"].place) == (
            "base/model.yaml:1",
            "my/own.yaml:3",
        )

    def test_any_table_may_extend(self, write):
        write("tok.yaml", "use: vqgan\nchannels: 8\nweights: t.safetensors")
        write("own.yaml", "a:\n- tokenizer: {extends: tok.yaml, weights: null}")
        expected = {"a": [{"tokenizer": {"use": "vqgan", "channels": 8, "weights": None}}]}
        assert load("own.yaml").plain() == expected

    def test_an_inner_parent_comes_before_the_outer_one(self, write):
        write("tok.yaml", "use: vqgan\nchannels: 8")
        write("base.yaml", "tokenizer: {use: vqgan, channels: 4, codes: 9}")
        write("own.yaml", "extends: base.yaml\ntokenizer: {extends: tok.yaml}")
        assert load("own.yaml").plain() == {"tokenizer": {"use": "vqgan", "channels": 8, "codes": 9}}

    def test_a_shipped_recipe_by_name(self, write):
        write("own.yaml", "extends: models/emoji\nuse: draw")
        assert load("own.yaml").plain() == {**load("models/emoji").plain(), "use": "draw"}

    def test_an_override_may_extend(self, write):
        write("tok.yaml", "use: vqgan\nchannels: 8")
        write("own.yaml", "tokenizer: {use: vqgan, codes: 9}")
        changed = load("own.yaml", [override("tokenizer.extends=tok.yaml")])
        assert changed.plain() == {"tokenizer": {"use": "vqgan", "codes": 9, "channels": 8}}

    def test_two_parents_are_refused(self, write):
        write("own.yaml", "use: x\nextends: [a, b]")
        assert refused(load, "own.yaml") == (
            "own.yaml:2  extends — a table extends one recipe: of two, none could say whose settings count; "
            "let one extend the other"
        )

    def test_what_is_no_name_is_refused(self, write):
        write("own.yaml", "a: {extends: 3}")
        assert refused(load, "own.yaml") == "own.yaml:1  a.extends — expected a recipe's name, got 3"

    def test_a_circle_is_shown(self, write):
        write("a.yaml", "extends: b.yaml")
        write("b.yaml", "x: 1\ny: {extends: a.yaml}")
        assert refused(load, "a.yaml") == (
            "b.yaml:2  y.extends — recipes extend each other in a circle: a.yaml extends b.yaml extends a.yaml"
        )
        assert "in a circle: b.yaml extends a.yaml extends b.yaml" in refused(load, "b.yaml")

    def test_an_unknown_parent_is_told_at_its_line(self, write):
        write("own.yaml", "use: x\nextends: models/emojy")
        message = refused(load, "own.yaml")
        assert message.startswith("own.yaml:2  extends — there is no recipe 'models/emojy', neither as a file")
        assert "did you mean 'models/emoji'?" in message

    def test_a_parent_for_another_part_is_refused(self, write):
        write("tok.yaml", "use: vqgan")
        write("own.yaml", "tokenizer: {extends: tok.yaml, use: other}")
        assert refused(load, "own.yaml") == (
            "own.yaml:1  tokenizer.extends — 'tok.yaml' is for 'vqgan', but this table says use: other, so nothing of "
            "it would remain; leave one of them out"
        )

    def test_a_mistake_in_a_parent_is_told_there(self, write):
        write("tok.yaml", "a: 1\na: 2")
        write("own.yaml", "extends: tok.yaml")
        assert refused(load, "own.yaml") == "tok.yaml:2  'a' is written twice in one table, first in line 1"


MARKED = [
    "a sign that says: open", "sign: open", "cat:", ": x", "a #1", "#1 cat", "{a} cat", "{cat}", "[cat", "] x", "} x",
    "*cat", "&b cat", "!cat dog", "! cat", "%50 off", "@home", "`x`", "- a cat", "-", "? why", "| cat", "|", "> big",
    ">", "'cat", '"cat', "'a' b", "a\tb", "\tcat", "cat: it's", "---", "--- a", "...", ", a", "2024", "1e5", "null",
    "true", "[a: b", "{a: b} c", "\u2028x: y", "🍎: apple",
]  # fmt: skip
"""Text that YAML takes for something else, wholly or in part."""


def problems_of(prompt):
    """What `check` tells of a prompt given as an override."""
    try:
        return check("generate", [f"prompt={prompt}"])
    except RecipeError as error:
        return error.problems


def test_marks_in_a_file_are_shown_in_quotes(write):
    """With their line, and as the line is to be."""
    for text in ("a: b", "{a} cat", "[cat", "*cat", "%50", "@home", "- a cat", "? why", "| cat", "> a", "'cat", '"cat'):
        write("own.yaml", f"extends: generate\nprompt: {text}\n")
        told = refused(load, "own.yaml")
        line = told.partition(", as in ")[2]
        assert told.startswith("own.yaml:2  not YAML: ") and parse(line, "line").plain() == {"prompt": text}, told


def test_a_bracket_that_stays_open_is_told_where_it_begins(write):
    write("own.yaml", "extends: generate\nprompt: [cat\nseed: 1\n")
    told = refused(load, "own.yaml")
    assert "while parsing a flow sequence that begins in line 2" in told and told.endswith('as in prompt: "[cat"')


@pytest.mark.parametrize("text", ["!cat dog", "! cat", "{cat}", "[{a: b}]"])
def test_what_yaml_reads_as_something_else_in_a_file_is_told_to_be_quoted(write, text):
    write("own.yaml", f"extends: generate\nprompt: {text}\n")
    with pytest.raises(RecipeError, match=r"^own.yaml:2  .*in quotes") as caught:
        if problems := check("own.yaml"):
            raise RecipeError(problems)
    assert len(caught.value.problems) == 1


class TestOverrides:
    def changed(self, *texts):
        return load({"use": "draw", "s": {"use": "fast", "steps": 8}}, overrides(texts)).plain()

    def test_values_are_yaml_and_later_wins(self):
        assert self.changed("s.steps=4", "s.t=1e-4", "s.steps=2")["s"] == {"use": "fast", "steps": 2, "t": 1e-4}
        assert self.changed("a=[1, no]", "b={c: d}", "s=null", "prompt=a red apple, noto style") == {
            "use": "draw",
            "s": None,
            "a": [1, "no"],
            "b": {"c": "d"},
            "prompt": "a red apple, noto style",
        }
        assert self.changed("x=", "y=a=b", "s=slow") == {"use": "draw", "s": {"use": "slow"}, "x": None, "y": "a=b"}

    def test_as_dicts(self):
        given = [{"s.steps": 4, "prompt": ["no"]}, "s.steps=3"]
        assert load({}, overrides(given)).plain() == {"s": {"steps": 3}, "prompt": ["no"]}
        assert load({}, overrides({"a.b": {"c": 1}})).plain() == {"a": {"b": {"c": 1}}}
        assert overrides(None) == []

    def test_they_know_where_they_come_from(self):
        assert override("a.b=1").value["a"].value["b"] == Node(1, "override 'a.b=1'")

    @pytest.mark.parametrize("text", ["steps", "=3", "a..b=3", ".a=3", "a.=3", ""])
    def test_no_override(self, text):
        message = f"{text!r} is no override; write key.path=value, such as stages.base.sampler.steps=8"
        assert refused(override, text) == message

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("a=b: c: d", "override 'a=b: c: d'  not YAML: mapping values are not allowed here; text that holds"),
            ("a=[1", "override 'a=[1'  not YAML: while parsing a flow sequence"),
            ("a=cat #1", "override 'a=cat #1'  from '#' on it would be a YAML comment; put the value in double quotes"),
            ("a=#1 cat", "from '#' on it would be a YAML comment"),
        ],
    )
    def test_no_value(self, text, message):
        assert message in refused(override, text)

    @pytest.mark.parametrize("text", MARKED)
    def test_text_with_marks_is_shown_as_it_is_typed(self, text):
        """The command line that the error shows, read by a shell, gives the very text."""
        (problem,) = problems_of(text)
        assert problem.place == f"override {f'prompt={text}'!r}"
        shown = shlex.split(problem.message.partition("as text, type ")[2])
        assert len(shown) == 1 and override(shown[0]).plain() == {"prompt": text}
        assert problems_of(shown[0].partition("=")[2]) == []

    @pytest.mark.parametrize("text", ["-- x", "it's", "a 'b' c", "a,b", "a=b", "a:b", "a#b", "!!str 3", "-5 degrees"])
    def test_text_whose_marks_mean_nothing_is_taken(self, text):
        assert problems_of(text) == []

    def test_a_list_and_a_table_of_several_lines_are_taken(self):
        assert override("a=- b\n- c").plain() == {"a": ["b", "c"]}
        assert override("a=|\n  b\n  c").plain() == {"a": "b\nc"}

    def test_quotes_keep_everything(self):
        assert override('a="cat #1: yes"').plain() == {"a": "cat #1: yes"}


class TestFinding:
    def test_shipped_recipes_with_or_without_ending(self):
        assert {"generate", "evaluate", "models/emoji"} <= set(shipped())
        assert load("generate").plain() == load("generate.yaml").plain()

    def test_a_file_of_ones_own_comes_first_when_it_is_named_as_one(self, write):
        write("generate.yaml", "use: mine")
        assert load("generate.yaml").plain() == {"use": "mine"}
        assert load("generate").plain() != {"use": "mine"}

    def test_unknown(self):
        message = refused(load, "generat")
        assert message.startswith(
            "there is no recipe 'generat', neither as a file (generat) nor among those that are shipped; "
            f"did you mean 'generate'? available: {RECIPES}"
        )
        assert "there is no recipe 'gone/own.yaml', neither as a file (gone/own.yaml)" in refused(load, "gone/own.yaml")
        assert "there is no recipe" in refused(load, "a red apple " * 100)

    def test_a_folder(self, here):
        (here / "stuff").mkdir()
        assert refused(load, "stuff") == f"stuff is a folder; name a recipe in it, or one of {RECIPES}"

    @pytest.mark.parametrize("text", ["", "\n\n", "# only words\n", "---\n", "null"])
    def test_empty(self, write, text):
        write("own.yaml", text)
        assert refused(load, "own.yaml") == "own.yaml is empty; a recipe says at least what to use or what it extends"

    @pytest.mark.parametrize(("text", "kind"), [("- a\n- b", "a list"), ("hello", "'hello'"), ("3", "3")])
    def test_no_table(self, write, text, kind):
        write("own.yaml", text)
        assert refused(load, "own.yaml") == f"own.yaml:1  a recipe is a table of key: value; this is {kind}"

    def test_not_utf_8(self, here):
        (here / "own.yaml").write_bytes("use: draw\nprompt: Käse".encode("latin-1"))
        assert refused(load, "own.yaml").startswith("own.yaml:2  this is not UTF-8 text; save it as UTF-8.")

    def test_a_byte_order_mark_is_passed_over(self, here):
        (here / "own.yaml").write_bytes("\ufeffuse: draw".encode())
        assert load("own.yaml").plain() == {"use": "draw"}

    def test_too_large(self, here):
        (here / "own.yaml").write_bytes(b"#" * ((1 << 20) + 1))
        assert refused(load, "own.yaml") == "own.yaml is larger than 1048576 bytes, so it is no recipe"

    def test_unreadable(self, write, monkeypatch):
        write("own.yaml", "use: draw")

        def refuse(*_):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("pathlib.Path.open", refuse)
        assert refused(load, "own.yaml") == "own.yaml can't be read: Permission denied"


class TestPictures:
    DATA = {"use": "generate", "prompt": "ein roter Käse 🍎", "seed": 7}  # noqa: RUF012 - never changed

    def test_a_png_that_carries_its_recipe(self, here):
        text = PngInfo()
        text.add_itxt(PICTURE_KEY, to_yaml(self.DATA))
        Image.new("RGB", (4, 4)).save(here / "own.png", pnginfo=text)
        assert load("own.png", [override("seed=8")]).plain() == {**self.DATA, "seed": 8}
        assert load("own.png").value["seed"].place == "own.png:3"

    def test_a_webp_that_carries_its_recipe(self, here):
        Image.new("RGB", (4, 4)).save(here / "own.webp", exif=webp_exif(to_yaml(self.DATA)))
        assert load("own.webp").plain() == self.DATA

    @pytest.mark.parametrize("name", ["own.png", "own.webp", "own.jpg", "own.gif"])
    def test_a_picture_without_one(self, here, name):
        Image.new("RGB", (4, 4)).save(here / name)
        assert refused(load, name) == (
            f"{name} is a picture without a recipe in its metadata (muse_recipe); give a picture that muse has "
            "made and that no other program has saved since, or a recipe in YAML"
        )

    def test_a_webp_with_a_comment_of_somebody_else(self, here):
        exif = Image.Exif()
        exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + "steps: 20".encode("utf-16-be")
        Image.new("RGB", (4, 4)).save(here / "own.webp", exif=exif)
        assert "is a picture without a recipe" in refused(load, "own.webp")

    def test_a_truncated_picture(self, here):
        Image.effect_noise((64, 64), 50).save(here / "own.png")
        content = (here / "own.png").read_bytes()
        (here / "own.png").write_bytes(content[: len(content) // 2])
        assert "own.png can't be read as a picture: " in refused(load, "own.png")


def test_a_recipe_error_holds_its_problems():
    with pytest.raises(RecipeError) as error:
        parse("a: 1\na: 2", "a.yaml")
    (problem,) = error.value.problems
    assert (problem.place, problem.path) == ("a.yaml:2", "")


HUGE = ["9" * 5000, "-" + "9" * 5000, "+" + "1" * 5000, "0x" + "f" * 5000, "0o" + "7" * 6000, "0x" + "f" * 1200]


@pytest.mark.parametrize("path", ["seed", "prompt", "use", "extends", "stages.base.guidance.scale", "stages.base.size"])
@pytest.mark.parametrize("number", HUGE, ids=range(len(HUGE)))
def test_a_number_of_thousands_of_digits_is_one_short_error(write, path, number):
    told = refused(override, f"{path}={number}")
    assert "digits, and 1,000 are the most; what is text must stand in quotes" in told and len(told) < 700
    write("own.yaml", f"extends: generate\nseed: {number}\n")
    assert refused(load, "own.yaml").startswith(f"own.yaml:2  a number of {len(number):,} digits, and 1,000 are the")


def test_a_huge_number_of_python_is_refused_and_a_long_one_kept():
    assert refused(overrides, {"seed": 10**5000}).startswith("override 'seed'  a number of 5,001 digits, and 1,000")
    assert refused(overrides, {"a": [{"b": -(10**5000)}]}).startswith("override 'a'  a number of 5,001 digits")
    assert plain(to_yaml({"a": int("9" * 999)})) == {"a": int("9" * 999)}
