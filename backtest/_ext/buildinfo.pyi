SOURCE_HASH: str
COMPILER: str
SIMD: str

def record_fields() -> dict[str, list[str]]: ...
