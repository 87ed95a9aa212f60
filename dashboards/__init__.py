"""What the user looks at; reads studies and writes none."""
