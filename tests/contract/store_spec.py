"""What does a store's test class inherit? Everything a store must do; it supplies one fixture, `subject`.

    class TestNameStore(StoreSpec):
        @pytest.fixture(scope="class")
        @classmethod
        def subject(cls) -> Subject: ...

What a store cannot do it declares in its `Capabilities`, and the tests ask for the declared refusal: none is
skipped, removed or overridden.
"""

from __future__ import annotations

from store_agreement import StoreAgreement
from store_contract import StoreContract, Subject
from store_properties import StoreProperties

__all__ = ["StoreSpec", "Subject"]


class StoreSpec(StoreContract, StoreProperties, StoreAgreement):
    """Inherit, and supply the fixture `subject`."""

    async def test_no_test_is_changed(self) -> None:
        for name in dir(StoreSpec):
            if name.startswith("test_"):
                assert getattr(type(self), name) is getattr(StoreSpec, name), f"{name} was overridden"
