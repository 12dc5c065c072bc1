"""x"""
def poisons(name: str) -> bool:
    """x"""
    return False
