"""Attributes and items as DynamoDB has them, of every kind but binary."""

from hypothesis import strategies as st

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
attributes = st.recursive(
    st.one_of(
        st.builds(lambda text: {"S": text}, texts),
        st.builds(lambda number: {"N": str(number)}, st.integers() | st.floats(allow_nan=False, allow_infinity=False)),
        st.builds(lambda flag: {"BOOL": flag}, st.booleans()),
        st.just({"NULL": True}),
        st.builds(lambda each: {"SS": each}, st.lists(texts, min_size=1, max_size=3)),
        st.builds(lambda each: {"NS": each}, st.lists(st.integers().map(str), min_size=1, max_size=3)),
    ),
    lambda inner: st.one_of(
        st.builds(lambda each: {"L": each}, st.lists(inner, max_size=4)),
        st.builds(lambda each: {"M": each}, st.dictionaries(texts, inner, max_size=4)),
    ),
    max_leaves=8,
)
items = st.dictionaries(texts, attributes, max_size=5)
