"""Everything outside the core: one package a store, a protocol or a library. None of them imports another."""
